"""A peer that cannot do the work is shown with its reason, and keeps nobody from the work."""

import pytest

import run_bench
from bench.data.generated import load as load_generated
from bench.studies.cost.study import CostComparison, CostStudy
from solvers.gradients.anode import Anode
from tests.bench.builders import CPU
from tests.bench.studies import strange_peers

STRANGE = "tests.bench.studies.strange_peers"


def measure(*gradients):
    suite = CostStudy(
        *("cost", "", ("resnet4",), ("euler",), (1,)),
        gradients=gradients,
        batch_size=2,
        repeats=2,
    )
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
    shown = [row for (gradient, _), row in rows.items() if gradient == peer]
    assert [(row.phase, row.seconds, row.ratio, row.repeats) for row in shown] == [
        ("step", None, None, None)
    ]
    assert shown[0].reason.startswith(reason)
    assert "\n" not in shown[0].reason
    for gradient in ("backprop", "anode"):
        assert rows[gradient, "step"].repeats == 2
        assert rows[gradient, "step"].reason == ""


def test_midway_is_in_the_midst_of_the_rounds(monkeypatch):
    monkeypatch.setattr(strange_peers.MIDWAY, "solved", [])
    measure(f"{STRANGE}:MIDWAY")
    # Checked once, warmed up twice, its evaluations counted; a warm-up, a round, and the last.
    assert len(strange_peers.MIDWAY.solved) == 7


def test_peer_with_the_right_result_is_timed():
    row = measure(f"{STRANGE}:RIGHT")["RIGHT", "step"]
    assert (row.reason, row.repeats, row.nfe_forward) == ("", 2, 1)


def test_what_goes_wrong_in_a_method_of_ours_is_raised(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Anode, "solve", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        measure("anode")


def test_peer_that_is_not_there_is_bad_usage(tmp_path, capsys):
    line = "--suite cost --network resnet4 --gradient bench.peers.nobody:HOME --out"
    assert run_bench.main([*line.split(), str(tmp_path)]) == 2
    assert "cannot load gradient method 'bench.peers.nobody:HOME'" in capsys.readouterr().err


def test_compilation_is_a_row_of_its_own_and_what_is_not_seen_is_none():
    rows = measure(f"{STRANGE}:COMPILED")
    compiled, step = rows["COMPILED", "compile"], rows["COMPILED", "step"]
    assert (compiled.seconds, compiled.repeats, compiled.ratio) == (2.5, 1, None)
    assert (step.peak_bytes, step.nfe_forward, step.nfe_backward) == (None, None, None)
    assert step.gradient_error == 0
    assert ("backprop", "compile") not in rows


def test_check_says_why_a_peer_could_not_be_measured():
    row = measure(f"{STRANGE}:REFUSING")["REFUSING", "step"]
    assert (
        CostComparison().problem(row, row) == "it could not be measured: no wheels here: fit some"
    )


def test_reason_is_printed_and_stands_in_table_and_figure(tmp_path, capsys):
    line = "--suite cost --network resnet4 --method euler --Nt 1 --batch_size 2 --gradient"
    peers = f"{STRANGE}:REFUSING,{STRANGE}:COMPILED"
    assert run_bench.main([*line.split(), peers, "--out", str(tmp_path)]) == 0
    assert "no wheels here: fit some" in capsys.readouterr().out
    figures = tmp_path / "cost" / "figures"
    table = (figures / "cost.md").read_text()
    assert "| no wheels here: fit some |" in table
    assert "| not measured | not measured |" in table
    assert "| 2.5 |" in table
    drawn = " ".join((figures / "cost_memory-euler-nt1.svg").read_text().split())
    assert "REFUSING" in drawn
