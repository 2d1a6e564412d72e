"""A peer that cannot do the work is shown with its reason; the others are measured."""

import pytest

import run_bench
from bench.data.generated import load as load_generated
from bench.studies.cost.study import CostComparison, CostStudy
from solvers.gradients.anode import Anode
from tests.bench.builders import CPU
from tests.bench.studies import strange_peers

STRANGE = "tests.bench.studies.strange_peers"
DRAWN = True


def measure(*gradients):
    names = ("cost", "", ("resnet4",), ("euler",), (1,))
    suite = CostStudy(*names, gradients=gradients, batch_size=2, repeats=2)
    (case,) = suite.cases()
    rows = suite.runner(load_generated(10), CPU).measure(case)
    return {(row.gradient.rpartition(":")[2], row.phase): row for row in rows}


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        ("TOO_FAR", "its forward result is not backprop's"),
        ("DOUBLED", "its gradient is not backprop's"),
        ("AT_ONCE", "RuntimeError: a wheel came off"),
        ("REFUSING", "no wheels here: fit some"),
        ("MIDWAY", "RuntimeError: a wheel came off"),
    ],
)
def test_peer_that_fails_is_shown_with_its_reason_and_the_others_are_measured(
    peer, reason, monkeypatch
):
    monkeypatch.setattr(strange_peers.MIDWAY, "solved", [])
    rows = measure("anode", f"{STRANGE}:{peer}")
    (shown,) = [row for (gradient, _), row in rows.items() if gradient == peer]
    found = (shown.phase, shown.seconds, shown.ratio, shown.repeats)
    assert found == ("step", None, None, None)
    assert shown.reason.startswith(reason)
    assert "\n" not in shown.reason
    assert CostComparison().problem(shown, shown).startswith(f"it could not be measured: {reason}")
    for gradient in ("backprop", "anode"):
        assert (rows[gradient, "step"].repeats, rows[gradient, "step"].reason) == (2, "")
    if peer == "MIDWAY":
        # Checked once, warmed up twice, its evaluations counted; a warm-up, a round, and the last.
        assert len(strange_peers.MIDWAY.solved) == 7


def test_compilation_is_a_row_of_its_own_and_what_cannot_be_seen_is_none():
    rows = measure(f"{STRANGE}:COMPILED", f"{STRANGE}:RIGHT")
    compiled, step = rows["COMPILED", "compile"], rows["COMPILED", "step"]
    assert (compiled.seconds, compiled.repeats, compiled.ratio) == (2.5, 1, None)
    assert (step.peak_bytes, step.nfe_forward, step.nfe_backward) == (None, None, None)
    assert step.gradient_error == 0
    assert ("backprop", "compile") not in rows
    right = rows["RIGHT", "step"]
    assert (right.reason, right.repeats, right.nfe_forward) == ("", 2, 1)


def test_error_in_a_method_of_ours_is_raised(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Anode, "solve", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        measure("anode")


def test_reason_is_printed_and_stands_in_table_and_figure(tmp_path, capsys):
    line = "--suite cost --network resnet4 --method euler --Nt 1 --batch_size 2 --gradient"
    peers = f"{STRANGE}:REFUSING,{STRANGE}:COMPILED"
    assert run_bench.main([*line.split(), peers, "--out", str(tmp_path)]) == 0
    assert "no wheels here: fit some" in capsys.readouterr().out
    figures = tmp_path / "cost" / "figures"
    table = (figures / "cost.md").read_text()
    for said in ("no wheels here: fit some", "not measured | not measured", "2.5"):
        assert f"| {said} |" in table
    assert "REFUSING" in (figures / "cost_memory-euler-nt1.svg").read_text()
