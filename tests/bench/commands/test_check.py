"""The regression check passes, and fails when a gradient method is made wrong."""

import re

import pytest
import torch

import run_bench
from bench.records import GradientRow, MemoryRow, read_reference, write_reference
from bench.records.checksums import SCHEMA
from bench.records.references import reference_of
from bench.studies import regression
from bench.studies.gradients import MOVED
from bench.suites import SUITES
from solvers import GRADIENTS

GRADIENTS_SUITE = ["--suite", "gradients", "--network", "resnet4", "--Nt", "3", "--method", "rk2"]
MEMORY_SUITE = ["--suite", "memory", *GRADIENTS_SUITE[2:]]


class Changed:
    """A gradient method that states the facts of another one, and solves in another way."""

    def __init__(self, inner, solve=None, **facts):
        self.inner, self.other_solve = inner, solve
        vars(self).update(facts)

    def __getattr__(self, fact):
        return getattr(self.inner, fact)

    def solve(self, *case):
        z1 = self.inner.solve(*case)
        return self.other_solve(z1, *case) if self.other_solve else z1


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is scaled, and which keeps an object until the backward pass."""

    @staticmethod
    def forward(ctx, z1, factor, kept):
        ctx.factor, ctx.kept = factor, kept
        return z1.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None, None


def perturbed(z1, rhs, z0, method, n_steps):
    """Wrong by one part in a million."""
    return _Scaled.apply(z1, 1 + 1e-6, None)


def hoarding(z1, rhs, z0, method, n_steps):
    """Keeps one more state per step."""
    return _Scaled.apply(z1, 1, [z0.detach().clone() for _ in range(n_steps)])


def evaluating_once_more(z1, rhs, z0, method, n_steps):
    with torch.no_grad():
        rhs(torch.zeros(()), z0)
    return z1


@pytest.mark.parametrize(
    ("suite", "said"),
    [(GRADIENTS_SUITE, "all as they must be"), (MEMORY_SUITE, "2 measurements of 2 cases checked")],
)
def test_check_passes(suite, said, capsys):
    assert run_bench.main([*suite, "--check", "--gradient", "anode,node"]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("suite", "gradient", "solve", "said"),
    [
        *((GRADIENTS_SUITE, g, perturbed, "are not what they must be") for g in ("anode", "node")),
        (GRADIENTS_SUITE, "anode-steps", perturbed, "are not what they must be"),
        (GRADIENTS_SUITE, "anode", evaluating_once_more, "statistics.*must be exactly 0"),
        (MEMORY_SUITE, "anode", hoarding, r"\+[34]\.00 states"),  # the fourth: z1 is copied
        (MEMORY_SUITE, "node", hoarding, r"\+[34]\.00 states"),
        (MEMORY_SUITE, "anode", evaluating_once_more, r"evaluations were 6 \+ 6"),
    ],
)
def test_check_fails_when_a_method_is_made_wrong(suite, gradient, solve, said, monkeypatch, capsys):
    changed = Changed(GRADIENTS[gradient], solve)
    monkeypatch.setitem(GRADIENTS, gradient, changed)
    assert run_bench.main([*suite, "--check", "--gradient", gradient]) == 1
    assert re.search(said, capsys.readouterr().out)


BOASTING = Changed(GRADIENTS["node"], name="boasting", exactness="exact")


def test_methods_are_held_to_what_they_state(capsys):
    assert run_bench.main([*GRADIENTS_SUITE, "--check", "--gradient", f"{__name__}:BOASTING"]) == 1
    assert "must be exactly 0" in capsys.readouterr().out


class Broken:
    name = "anode"

    def solve(self, rhs, z0, method, n_steps):
        raise RuntimeError("no\nmore")


def test_method_that_raises_is_named_and_the_others_are_checked(monkeypatch, capsys):
    monkeypatch.setitem(GRADIENTS, "anode", Broken())
    assert run_bench.main([*MEMORY_SUITE, "--check", "--gradient", "anode,node"]) == 3
    said = capsys.readouterr().out
    assert "RuntimeError: no" in said
    assert "cases failed: the lines above say why" in said


@pytest.mark.parametrize("suite", ["gradients", "memory", "smoke"])
def test_method_that_returns_a_wrong_shape_is_one_line_and_nothing_is_written(
    suite, tmp_path, monkeypatch, capsys
):
    changed = Changed(GRADIENTS["anode"], lambda z1, *case: z1[:1])
    monkeypatch.setitem(GRADIENTS, "anode", changed)
    line = ["--suite", suite, "--network", "resnet4", "--Nt", "1", "--method", "rk2"]
    out = str(tmp_path / "new" / "results")
    assert run_bench.main([*line, "--gradient", "anode", "--out", out]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "must return z(1) in the shape of z0" in said
    assert not [*tmp_path.iterdir()]


def test_reference_keeps_what_was_not_measured_again(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    for gradient in ("node-rk45", "node", "node-rk45"):
        mine = [*GRADIENTS_SUITE, "--gradient", gradient, "--reference", str(file)]
        assert run_bench.main([*mine, "--update-reference"]) == 0
        written = read_reference(file, GradientRow)
    assert [row.gradient for row in written[:4]] == ["node-rk45"] * 4
    mine[mine.index("--gradient") + 1] = "node-rk45,node"
    assert run_bench.main([*mine, "--check"]) == 0
    assert f"{len(written)} measurements" in capsys.readouterr().out


def gradient_row(**changes):
    values = {
        **{"network": "resnet4", "method": "rk2", "n_steps": 2, "gradient": "node"},
        **{"precision": "float64", "weights": "initial", "activation": "relu", "scale": 1.0},
        **{"device": "cpu", "part": "all parameters", "error": 0.25, "cosine": 0.9},
        "lipschitz": 5.0,
    }
    return GradientRow(**{**values, **changes})


def memory_row(**changes):
    values = {
        **{"network": "resnet4", "n_blocks": 1, "method": "rk2", "n_steps": 3},
        **{"gradient": "anode", "batch_size": 8, "device": "cpu", "state_bytes": 1000},
        **{"peak_bytes": 50_000, "nfe_forward": 6, "nfe_backward": 6},
    }
    return MemoryRow(**{**values, **changes})


REVOLVE = {"gradient": "anode-revolve:m=2"}
STATISTICS = {"gradient": "node-frozen", "part": "statistics"}


@pytest.mark.parametrize(
    ("measured", "is_right"),
    [
        (gradient_row(), True),
        (gradient_row(error=0.25 * (1 + 0.9 * MOVED)), True),
        (gradient_row(error=0.25 * (1 + 2 * MOVED)), False),
        (gradient_row(error=0.25 * (1 - 2 * MOVED)), False),
        (gradient_row(error=1e-14, part="block 1"), True),
        (gradient_row(error=1e-11, part="block 1"), False),
        (gradient_row(error=float("nan")), False),
        (gradient_row(n_steps=5), False),
        (gradient_row(cosine=-0.9), False),
        (gradient_row(activation="tanh"), False),
        (gradient_row(gradient="anode", error=0.0), True),
        (gradient_row(gradient="anode", error=1e-300), False),
        (gradient_row(**REVOLVE, error=1e-15), True),
        (gradient_row(**REVOLVE, error=1e-13), False),
        (gradient_row(**STATISTICS, error=0.0), True),
        (gradient_row(**STATISTICS, error=1e-9), False),
        (memory_row(), True),
        (memory_row(peak_bytes=50_001), False),
        (memory_row(peak_bytes=49_999), False),
        (memory_row(nfe_backward=7), False),
        (memory_row(gradient="node"), False),
        (memory_row(device="cuda", peak_bytes=50_400), True),
        (memory_row(device="cuda", peak_bytes=51_000), False),
    ],
)
def test_measurement_is_as_it_must_be_within_its_tolerance(measured, is_right):
    if isinstance(measured, GradientRow):
        suite, known = "gradients", [gradient_row(), gradient_row(part="block 1", error=1e-13)]
    else:
        suite, known = "memory", [memory_row(), memory_row(device="cuda")]
    (finding,) = regression.compare(SUITES[suite].comparison, [measured], known)
    assert (finding.problem is None) == is_right


@pytest.mark.parametrize("suite", ["gradients", "memory"])
def test_committed_reference_covers_the_whole_fixed_set(suite):
    own = ("network", "method", "n_steps", "gradient")
    own += ("precision", "weights") if suite == "gradients" else ("batch_size",)

    def keys(rows):
        return {tuple(getattr(row, name) for name in own) for row in rows}

    known = read_reference(reference_of(suite), SUITES[suite].row)
    assert keys(SUITES[suite].check_cases()) == keys(known)


def truncated(file):
    file.write_text(file.read_text()[: len(file.read_text()) // 3])


def replaced(old, new):
    return lambda file: file.write_text(file.read_text().replace(old, new))


BAD = {
    "there is no reference": lambda file: file.unlink(),
    "is not a complete reference": truncated,
    "is of another version or suite": replaced(f"schema {SCHEMA}", "schema 99"),
    "another version or suite": replaced("Row", "OtherRow"),
    "has no reference for cpu": {"device": "cuda"},
    "has no reference for all cases of node": {"n_steps": 7},
}
CANNOT_BE_UPDATED = [said for said in BAD if said.startswith("is") or said.startswith("another")]


@pytest.mark.parametrize("said", BAD)
def test_bad_reference_is_one_line_and_is_not_overwritten(said, tmp_path, capsys):
    file = tmp_path / "reference.csv"
    changes = BAD[said] if isinstance(BAD[said], dict) else {}
    write_reference(file, MemoryRow, [memory_row(gradient="node", **changes)])
    if not changes:
        BAD[said](file)
    before = file.read_text() if file.is_file() else None
    line = [*MEMORY_SUITE, "--gradient", "node", "--reference", str(file)]
    assert run_bench.main([*line, "--check"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error
    if said in CANNOT_BE_UPDATED:
        assert run_bench.main([*line, "--update-reference"]) == 2
    assert (file.read_text() if file.is_file() else None) == before
