"""The gate passes as it is, and fails when a gradient method is made wrong."""

import dataclasses

import pytest
import torch

import run_bench
from bench.laboratory import GradientCase, Laboratory
from bench.records import GradientRow, read_rows, write_rows
from bench.regression import MOVED, compare
from bench.suites import SUITES
from solvers import GRADIENTS
from solvers.replay import Replay

SMALL = ["--suite", "gradients", "--network", "resnet4", "--Nt", "3", "--method", "rk2"]
CHECK = [*SMALL, "--check"]


def test_gate_passes(capsys):
    assert run_bench.main(CHECK) == 0
    assert "all as they must be" in capsys.readouterr().out


class Perturbed:
    """A gradient method whose gradient is wrong by a relative amount."""

    def __init__(self, inner, amount):
        self.inner, self.amount, self.name = inner, amount, inner.name

    def solve(self, rhs, z0, method, n_steps):
        return _Scaled.apply(self.inner.solve(rhs, z0, method, n_steps), 1 + self.amount)


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z1, factor):
        ctx.factor = factor
        return z1.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


@pytest.mark.parametrize("gradient", ["anode", "anode-steps", "node", "node-grid", "reversible"])
def test_gate_fails_when_a_gradient_is_wrong_by_one_part_in_a_million(
    gradient, monkeypatch, capsys
):
    monkeypatch.setitem(GRADIENTS._entries, gradient, Perturbed(GRADIENTS[gradient], 1e-6))
    assert run_bench.main([*CHECK, "--gradient", gradient]) == 1
    assert "are not what they must be" in capsys.readouterr().out


def test_gate_fails_when_recomputation_moves_batchnorm_statistics(monkeypatch, capsys):
    def not_put_back(self):
        return torch.enable_grad()

    monkeypatch.setattr(Replay, "_modules", not_put_back)
    assert run_bench.main([*CHECK, "--gradient", "anode"]) == 1
    assert "statistics" in capsys.readouterr().out


def reference_row(**changes):
    values = {
        "network": "resnet4",
        "method": "rk2",
        "n_steps": 2,
        "gradient": "node",
        "precision": "float64",
        "weights": "initial",
        "device": "cpu",
        "part": "all parameters",
        "error": 0.25,
        "cosine": 0.9,
    }
    return GradientRow(**{**values, **changes})


@pytest.mark.parametrize(
    ("measured", "is_right"),
    [
        (reference_row(), True),
        (reference_row(error=0.25 * (1 + 0.9 * MOVED)), True),
        (reference_row(error=0.25 * (1 + 2 * MOVED)), False),
        (reference_row(error=0.25 * (1 - 2 * MOVED)), False),
        (reference_row(error=0.0), False),
        (reference_row(error=1e-14, part="block 1"), True),
        (reference_row(error=1e-11, part="block 1"), False),
        (reference_row(error=float("nan")), False),
        (reference_row(n_steps=5), False),
        (reference_row(gradient="anode", error=0.0), True),
        (reference_row(gradient="anode", error=1e-300), False),
        (reference_row(gradient="anode-revolve:m=2", error=1e-15), True),
        (reference_row(gradient="anode-revolve:m=2", error=1e-13), False),
        (reference_row(gradient="node-frozen", part="statistics", error=0.0), True),
        (reference_row(gradient="node-frozen", part="statistics", error=1e-9), False),
    ],
)
def test_what_is_as_it_must_be(measured, is_right):
    rounding = reference_row(part="block 1", error=1e-13)
    (finding,) = compare([measured], [reference_row(), rounding])
    assert (finding.problem is None) == is_right


def test_committed_reference_covers_the_whole_fixed_set():
    from bench.cli import REFERENCE

    known = {
        (r.network, r.method, r.n_steps, r.gradient, r.precision, r.weights)
        for r in read_rows(REFERENCE, GradientRow)
    }
    assert {dataclasses.astuple(case) for case in SUITES["gradients"].check_cases()} == known


BAD = {
    "missing": "there is no reference",
    "truncated": "is damaged",
    "empty": "is damaged",
    "another version": "is damaged",
    "another device": "has no reference for cpu",
    "other cases": "has no reference for all cases of node",
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_reference_is_one_line_and_is_not_overwritten(damage, tmp_path, capsys):
    file = tmp_path / "reference.csv"
    changes = {"another device": {"device": "cuda"}, "other cases": {"n_steps": 7}}
    write_rows(file, GradientRow, [reference_row(**changes.get(damage, {}))])
    content = file.read_text()
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_text(content[: len(content) // 3])
    elif damage == "empty":
        file.write_text("")
    elif damage == "another version":
        file.write_text(content.replace("cosine", "angle"))
    before = file.read_text() if file.exists() else None
    arguments = [*CHECK, "--gradient", "node", "--reference", str(file)]
    assert run_bench.main(arguments) == 2
    said = capsys.readouterr().err
    assert BAD[damage] in said
    assert said.count("\n") == 1
    assert (file.read_text() if file.exists() else None) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--suite smoke --check", "has no reference: use --suite gradients"),
        ("--suite gradients --lr 0.1", "trains nothing: leave out --lr"),
        ("--suite gradients --update-reference --network resnet4", "writes the whole reference"),
        ("--suite gradients --gradient anode-revolve:m=9", "needs 1 ≤ m ≤ Nt"),
        ("--suite gradients --gradient baseline", "unknown gradient method 'baseline'"),
    ],
)
def test_what_makes_no_sense_is_refused(line, said, capsys):
    assert run_bench.main(line.split()) == 2
    assert said in capsys.readouterr().err


def test_suite_measures_records_and_draws(tmp_path):
    arguments = [*SMALL, "--Nt", "1,2,4", "--gradient", "anode,node", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    rows = read_rows(tmp_path / "gradients" / "measurements.csv", GradientRow)
    # 3 Nt, 2 gradients, 2 precisions, 2 kinds of weights; whole, block, z0, statistics.
    assert len(rows) == 3 * 2 * 2 * 2 * 4
    assert all(r.error == 0 for r in rows if r.gradient == "anode")
    assert all(r.error > 0 for r in rows if r.gradient == "node")
    assert len(list((tmp_path / "gradients" / "figures").glob("*.png"))) == 4


def test_trained_weights_are_the_same_for_every_gradient_method():
    from bench import data

    laboratory = Laboratory(data.load(None, 10, generate=True), torch.device("cpu"), 4)
    cases = [GradientCase("resnet4", "rk2", 2, g, "float64", "trained") for g in ("node", "anode")]
    one, other = (laboratory.measure(case) for case in cases)
    again = laboratory.measure(cases[0])
    assert [r.error for r in one] == [r.error for r in again]
    assert one[0].error > 0 == other[0].error
    initial = laboratory.measure(dataclasses.replace(cases[0], weights="initial"))
    assert initial[0].error != one[0].error
