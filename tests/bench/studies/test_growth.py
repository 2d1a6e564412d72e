"""The suite that measures how a step grows: what differs along a sweep, and what is counted. Times
themselves are not tested."""

import dataclasses
import itertools
import math

import pytest
import torch

import run_bench
from bench import data
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


def against_steps(rows, gradient):
    return [row for row in rows if (row.sweep, row.gradient) == ("Nt", gradient)]


def test_along_a_sweep_nothing_else_differs():
    points = [(c.sweep, c.network, c.n_steps, c.batch_size) for c in SUITE.cases()]
    assert points == [
        *(("Nt", "resnet4", n, 8) for n in (1, 2, 4, 8, 16, 32, 64)),
        *(("batch size", "resnet4", 2, size) for size in (16, 32, 64, 128, 256, 512, 1024)),
        *(("width", f"{growth.WIDE}{width}", 2, 32) for width in (8, 16, 32, 64, 128)),
    ]
    for case in SUITE.cases():
        assert len({dataclasses.replace(e, gradient="anode") for e in case.experiments}) == 1


def test_widths_are_resnet4s():
    assert {c.sweep for c in SUITE.replaced(networks=("alexnet",)).cases()} == {"Nt", "batch size"}
    twice = SUITE.replaced(networks=("resnet4", "ResNet4")).cases()
    assert twice == SUITE.cases()


def test_methods_that_took_turns_with_others_are_another_case():
    (one, *_), (other, *_) = SUITE.cases(), SUITE.replaced(gradients=("anode",)).cases()
    assert key_of(one, SUITE.key) != key_of(other, SUITE.key)


def test_rows_are_complete(rows, tiny):
    assert len(rows) == (4 + 2 + 2) * len(tiny.gradients)
    assert {row.width for row in rows if row.sweep == "width"} == {2, 3}
    assert {row.width for row in rows if row.sweep != "width"} == {16}
    assert {row.batch_size for row in rows if row.sweep == "batch size"} == {2, 3}
    for row in rows:
        assert row.status == "ok"
        assert row.repeats == 2
        assert row.peak_bytes > 0
        assert 0 < row.low <= row.relative <= row.high
        assert 0 < row.data_share_low <= row.data_share <= row.data_share_high
        assert row.seconds > 0
        assert row.yardstick > 0
        assert row.data_seconds > 0


@pytest.mark.parametrize(
    "gradient", ["backprop", "anode", "anode-auto", "anode-steps", "reversible", "node"]
)
def test_evaluations_grow_by_the_same_number_with_every_step(rows, gradient):
    for counted in ("nfe_forward", "nfe_backward"):
        counts = [getattr(row, counted) for row in against_steps(rows, gradient)]
        growths = {after - before for before, after in itertools.pairwise(counts)}
        assert len(growths) == 1, counts


def test_evaluations_of_the_single_checkpoint_grow_with_the_square(rows):
    for row in against_steps(rows, "anode-revolve:m=1"):
        assert row.nfe_forward == 2 * row.n_steps
        assert row.nfe_backward == row.n_steps * (row.n_steps + 1)


def test_table_is_printed_and_figures_are_drawn_again(folder, capsys):
    line = [*LINE, "--plots-only", "--out", str(folder.parent)]
    assert run_bench.main(line) == 0
    said = capsys.readouterr().out
    assert "Nt² + 3·Nt" in said
    assert "against width = 2, 3" in said
    assert {file.name for file in (folder / "figures").glob("*/*")} == {
        *("growth-resnet4-rk2.png", "growth-resnet4-rk2.svg"),
        *("growth-resnet4-rk2-2.png", "growth-resnet4-rk2-2.svg"),
        *("growth.csv", "growth.md", "data_path.csv", "report.html"),
    }


def test_recorded_cases_are_not_measured_again(folder, capsys):
    before = (folder / "measurements.csv").read_bytes()
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
    lost = [row for row in rows if row.status == "oom"]
    assert [(row.gradient, row.batch_size) for row in lost] == [("backprop", 3)]
    assert all(math.isnan(row.seconds) for row in lost)
    assert "did not fit into memory at batch size = 3" in capsys.readouterr().out


def test_batches_that_are_timed_are_whole_and_go_on_for_ever(monkeypatch):
    runner = SUITE.replaced(batch_sizes=(2, 3)).runner(
        data.load(None, 10, generate=True).subset(70, 20), CPU
    )
    sizes = []
    original = growth.train_batches

    def train_batches(*args, **kwargs):
        for images, labels in original(*args, **kwargs):
            sizes.append(len(labels))
            yield images, labels

    monkeypatch.setattr(growth, "train_batches", train_batches)
    maker = growth._batch_maker(runner._workload, 32)
    for _ in range(5):
        maker(lambda phase: None)
    assert sizes == [32] * 5
