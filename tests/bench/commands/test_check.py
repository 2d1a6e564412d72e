"""The regression check passes, and fails when a gradient method is made wrong."""

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
from solvers.replay import Replay

SMALL = ["--suite", "gradients", "--network", "resnet4", "--Nt", "3", "--method", "rk2"]
CHECK = [*SMALL, "--check"]


def compare(suite, measured, reference):
    return regression.compare(SUITES[suite].comparison, measured, reference)


def test_check_of_gradients_passes(capsys):
    assert run_bench.main(CHECK) == 0
    assert "all as they must be" in capsys.readouterr().out


class Changed:
    """A gradient method that states what another one states of itself."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, fact):
        return getattr(self.inner, fact)


class Perturbed(Changed):
    """Its gradient is wrong by one part in a million."""

    def solve(self, rhs, z0, method, n_steps):
        return _Scaled.apply(self.inner.solve(rhs, z0, method, n_steps), 1 + 1e-6)


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z1, factor):
        ctx.factor = factor
        return z1.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


@pytest.mark.parametrize("gradient", ["anode", "anode-steps", "node", "reversible"])
def test_check_fails_when_a_gradient_is_wrong_by_one_part_in_a_million(
    gradient, monkeypatch, capsys
):
    monkeypatch.setitem(GRADIENTS, gradient, Perturbed(GRADIENTS[gradient]))
    assert run_bench.main([*CHECK, "--gradient", gradient]) == 1
    assert "are not what they must be" in capsys.readouterr().out


def test_check_fails_when_recomputation_updates_batchnorm_statistics(monkeypatch, capsys):
    def not_put_back(self):
        return torch.enable_grad()

    monkeypatch.setattr(Replay, "_modules", not_put_back)
    assert run_bench.main([*CHECK, "--gradient", "anode"]) == 1
    assert "statistics" in capsys.readouterr().out


class Hoarding(Changed):
    """Keeps one more state per step, until its backward pass."""

    def solve(self, rhs, z0, method, n_steps):
        kept = [z0.detach().clone() for _ in range(n_steps)]
        return _Kept.apply(self.inner.solve(rhs, z0, method, n_steps), kept)


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z1, kept):
        ctx.kept = kept
        return z1.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


MEMORY = ["--suite", "memory", "--network", "resnet4", "--Nt", "3", "--method", "rk2", "--check"]


def test_check_of_memory_passes(capsys):
    assert run_bench.main([*MEMORY, "--gradient", "anode,node"]) == 0
    assert "2 measurements of 2 cases checked: all as they must be" in capsys.readouterr().out


@pytest.mark.parametrize("gradient", ["anode", "node"])
def test_check_fails_when_memory_grows_by_one_state_per_step(gradient, monkeypatch, capsys):
    monkeypatch.setitem(GRADIENTS, gradient, Hoarding(GRADIENTS[gradient]))
    assert run_bench.main([*MEMORY, "--gradient", gradient]) == 1
    said = capsys.readouterr().out
    assert "+3.00 states" in said or "+4.00 states" in said  # the fourth: z1 is copied


def test_check_fails_when_a_step_is_evaluated_once_more(monkeypatch, capsys):
    class Twice(Changed):
        def solve(self, rhs, z0, method, n_steps):
            with torch.no_grad():
                rhs(torch.zeros(()), z0)
            return self.inner.solve(rhs, z0, method, n_steps)

    monkeypatch.setitem(GRADIENTS, "anode", Twice(GRADIENTS["anode"]))
    assert run_bench.main([*MEMORY, "--gradient", "anode"]) == 1
    assert "evaluations were 6 + 6" in capsys.readouterr().out


def test_method_that_raises_is_named_and_the_others_are_checked(monkeypatch, capsys):
    class Broken:
        name = "anode"

        def solve(self, rhs, z0, method, n_steps):
            raise RuntimeError("no\nmore")

    monkeypatch.setitem(GRADIENTS, "anode", Broken())
    assert run_bench.main([*MEMORY, "--gradient", "anode,node"]) == 3
    said = capsys.readouterr().out
    assert "RuntimeError: no" in said
    assert "cases failed: the lines above say why" in said


@pytest.mark.parametrize("suite", ["gradients", "memory", "smoke"])
def test_method_that_returns_a_wrong_shape_is_one_line_and_nothing_is_written(
    suite, tmp_path, monkeypatch, capsys
):
    class Wrong:
        name = "anode"

        def solve(self, rhs, z0, method, n_steps):
            return z0[:1]

    monkeypatch.setitem(GRADIENTS, "anode", Wrong())
    line = ["--suite", suite, "--network", "resnet4", "--Nt", "1", "--method", "rk2"]
    out = tmp_path / "out"
    assert run_bench.main([*line, "--gradient", "anode", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "must return z(1) in the shape of z0" in said
    assert said.count("\n") == 1
    assert not [f for f in out.rglob("*") if f.is_file() and f.parent.name != ".locks"]


def test_reference_of_ones_own_holds_what_was_chosen(tmp_path, capsys):
    mine = ["--gradient", "node-rk45", "--reference", str(tmp_path / "mine.csv")]
    assert run_bench.main([*SMALL, "--update-reference", *mine]) == 0
    assert run_bench.main([*SMALL, "--check", *mine]) == 0
    assert "all as they must be" in capsys.readouterr().out


def reference_row(**changes):
    values = {
        "network": "resnet4",
        "method": "rk2",
        "n_steps": 2,
        "gradient": "node",
        "precision": "float64",
        "weights": "initial",
        "activation": "relu",
        "scale": 1.0,
        "device": "cpu",
        "part": "all parameters",
        "error": 0.25,
        "cosine": 0.9,
        "lipschitz": 5.0,
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
        (reference_row(cosine=-0.9), False),
        (reference_row(activation="tanh"), False),
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
    (finding,) = compare("gradients", [measured], [reference_row(), rounding])
    assert (finding.problem is None) == is_right


def memory_row(**changes):
    values = {
        "network": "resnet4",
        "n_blocks": 1,
        "method": "rk2",
        "n_steps": 3,
        "gradient": "anode",
        "batch_size": 8,
        "device": "cpu",
        "state_bytes": 1000,
        "peak_bytes": 50_000,
        "nfe_forward": 6,
        "nfe_backward": 6,
    }
    return MemoryRow(**{**values, **changes})


@pytest.mark.parametrize(
    ("measured", "is_right"),
    [
        (memory_row(), True),
        (memory_row(peak_bytes=50_001), False),
        (memory_row(peak_bytes=49_999), False),
        (memory_row(nfe_backward=7), False),
        (memory_row(gradient="node"), False),
        (memory_row(device="cuda"), True),
        (memory_row(device="cuda", peak_bytes=50_400), True),
        (memory_row(device="cuda", peak_bytes=51_000), False),
    ],
)
def test_what_memory_must_be(measured, is_right):
    (finding,) = compare("memory", [measured], [memory_row(), memory_row(device="cuda")])
    assert (finding.problem is None) == is_right


@pytest.mark.parametrize("suite", ["gradients", "memory"])
def test_committed_reference_covers_the_whole_fixed_set(suite):
    own = ("network", "method", "n_steps", "gradient")
    own += ("precision", "weights") if suite == "gradients" else ("batch_size",)
    known = read_reference(reference_of(suite), SUITES[suite].row)
    cases = SUITES[suite].check_cases()
    assert {tuple(getattr(case, name) for name in own) for case in cases} == {
        tuple(getattr(row, name) for name in own) for row in known
    }


def test_methods_are_held_to_what_they_state(capsys):
    boasting = ["--gradient", f"{__name__}:BOASTING"]
    assert run_bench.main([*CHECK, *boasting]) == 1
    assert "must be exactly 0" in capsys.readouterr().out


class Boasting(Changed):
    name = "boasting"
    exactness = "exact"


BOASTING = Boasting(GRADIENTS["node"])

BAD = {
    "missing": "there is no reference",
    "truncated": "is no whole reference",
    "another version": "is of another version or suite",
    "another suite": "is of another version or suite",
    "another device": "has no reference for cpu",
    "other cases": "has no reference for all cases of node",
}


def spoil(file, damage):
    content = file.read_text()
    if damage == "missing":
        file.unlink()
    if damage == "truncated":
        file.write_text(content[: len(content) // 3])
    if damage == "another version":
        file.write_text(content.replace(f"schema {SCHEMA}", "schema 99"))
    if damage == "another suite":
        file.write_text(content.replace("Row", "OtherRow"))
    return file.read_text() if file.is_file() else None


@pytest.mark.parametrize("damage", BAD)
def test_bad_reference_is_one_line_and_is_not_overwritten(damage, tmp_path, capsys):
    file = tmp_path / "reference.csv"
    changes = {"another device": {"device": "cuda"}, "other cases": {"n_steps": 7}}
    write_reference(file, MemoryRow, [memory_row(gradient="node", **changes.get(damage, {}))])
    before = spoil(file, damage)
    line = [*MEMORY[:-1], "--gradient", "node", "--reference", str(file)]
    assert run_bench.main([*line, "--check"]) == 2
    said = capsys.readouterr().err
    assert BAD[damage] in said
    assert said.count("\n") == 1
    if damage not in ("missing", "another device", "other cases"):
        assert run_bench.main([*line, "--update-reference"]) == 2
    assert (file.read_text() if file.is_file() else None) == before
