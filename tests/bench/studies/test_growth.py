"""The suite that measures how a step grows: what differs along a sweep, and what is counted. Times
themselves are not tested."""

import dataclasses
import itertools
import math

import pytest
import torch

import run_bench
from bench.data.generated import load
from bench.records import GrowthRow, key_of, read_rows
from bench.studies import growth
from bench.suites import SUITES
from solvers import GRADIENTS
from tests.bench.builders import CPU

SUITE = SUITES["growth"]
LINE = ["--suite", "growth", "--Nt", "1,2,3,4", "--batch_size", "2,3"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """The suite with the smallest steps: no option changes the widths and the reference step."""
    small = SUITE.replaced(n_steps_batch_size=1, widths=(2, 3), widths_batch_size=2, repeats=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "growth", small)
        reference = dataclasses.replace(growth.REFERENCE_STEP, batch_size=2)
        patch.setattr(growth, "REFERENCE_STEP", reference)
        yield small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("growth")
    assert run_bench.main([*LINE, "--out", str(out)]) == 0
    return out / "growth"


@pytest.fixture(scope="module")
def rows(folder):
    return read_rows(folder / "measurements.csv", GrowthRow)


def test_along_a_sweep_nothing_else_differs():
    points = [(c.sweep, c.network, c.n_steps, c.batch_size) for c in SUITE.cases()]
    assert points == [
        *(("Nt", "resnet4", n, 8) for n in (1, 2, 4, 8, 16, 32, 64)),
        *(("batch size", "resnet4", 2, size) for size in (16, 32, 64, 128, 256, 512, 1024)),
        *(("width", f"{growth.WIDE}{width}", 2, 32) for width in (8, 16, 32, 64, 128)),
    ]
    for case in SUITE.cases():
        assert len({dataclasses.replace(e, gradient="anode") for e in case.experiments}) == 1
    # The widths are resnet4's.
    assert {c.sweep for c in SUITE.replaced(networks=("alexnet",)).cases()} == {"Nt", "batch size"}
    assert SUITE.replaced(networks=("resnet4", "ResNet4")).cases() == SUITE.cases()


def test_methods_that_took_turns_with_others_are_another_case():
    (one, *_), (other, *_) = SUITE.cases(), SUITE.replaced(gradients=("anode",)).cases()
    assert key_of(one, SUITE.key) != key_of(other, SUITE.key)


def test_rows_are_complete(rows, tiny):
    assert len(rows) == (4 + 2 + 2) * len(tiny.gradients)
    assert {row.width for row in rows if row.sweep == "width"} == {2, 3}
    assert {row.width for row in rows if row.sweep != "width"} == {16}
    assert {row.batch_size for row in rows if row.sweep == "batch size"} == {2, 3}
    for row in rows:
        assert (row.status, row.repeats) == ("ok", 2)
        assert min(row.peak_bytes, row.seconds, row.reference_seconds, row.data_seconds) > 0
        assert 0 < row.low <= row.relative <= row.high
        assert 0 < row.data_share_low <= row.data_share <= row.data_share_high


def test_evaluations_grow_linearly_and_with_the_square_for_a_single_checkpoint(rows, tiny):
    for gradient in tiny.gradients:
        along = [row for row in rows if (row.sweep, row.gradient) == ("Nt", gradient)]
        if gradient == "anode-revolve:m=1":
            assert all(row.nfe_forward == 2 * row.n_steps for row in along)
            assert all(row.nfe_backward == row.n_steps * (row.n_steps + 1) for row in along)
        elif "revolve" not in gradient and "m=" not in gradient:
            for counted in ("nfe_forward", "nfe_backward"):
                counts = [getattr(row, counted) for row in along]
                assert len({b - a for a, b in itertools.pairwise(counts)}) == 1, (gradient, counts)


def test_table_and_figures_are_drawn_again_and_nothing_is_measured_again(folder, capsys):
    before = (folder / "measurements.csv").read_bytes()
    assert run_bench.main([*LINE, "--plots-only", "--out", str(folder.parent)]) == 0
    said = capsys.readouterr().out
    assert "Nt² + 3·Nt" in said
    assert "against width = 2, 3" in said
    assert {file.name for file in (folder / "figures").glob("*/*")} == {
        *(f"growth-resnet4-rk2{page}.{kind}" for page in ("", "-2") for kind in ("png", "svg")),
        *("growth.csv", "growth.md", "data_path.csv", "report.html"),
    }
    assert run_bench.main([*LINE, "--out", str(folder.parent)]) == 0
    assert "8 of 8 cases are recorded already" in capsys.readouterr().out
    assert (folder / "measurements.csv").read_bytes() == before


def test_method_that_does_not_fit_is_recorded_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    inner = GRADIENTS["backprop"]

    class Large:
        name = "large"

        def solve(self, rhs, z0, method, n_steps):
            if len(z0) == 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inner.solve(rhs, z0, method, n_steps)

    monkeypatch.setitem(GRADIENTS, "backprop", Large())
    line = "--suite growth --Nt 1,2 --batch_size 2,3 --network models.resnet:CHAIN:blocks=1"
    own = ["--gradient", "backprop,anode", "--out", str(tmp_path)]
    assert run_bench.main([*line.split(), *own]) == 0
    rows = read_rows(tmp_path / "growth" / "measurements.csv", GrowthRow)
    (lost,) = [row for row in rows if row.status == "oom"]
    assert (lost.gradient, lost.batch_size) == ("backprop", 3)
    assert math.isnan(lost.seconds)
    assert "did not fit into memory at batch size = 3" in capsys.readouterr().out


def test_timed_batches_are_whole_and_never_run_out(monkeypatch):
    runner = SUITE.replaced(batch_sizes=(2, 3)).runner(load(10).subset(70, 20), CPU)
    sizes, original = [], growth.train_batches

    def train_batches(*args, **kwargs):
        for images, labels in original(*args, **kwargs):
            sizes.append(len(labels))
            yield images, labels

    monkeypatch.setattr(growth, "train_batches", train_batches)
    maker = growth._batch_maker(runner._workload, 32)
    for _ in range(5):
        maker(lambda phase: None)
    assert sizes == [32] * 5
