"""--tensorboard: the events are what is recorded."""

import sys

import pytest

import run_bench
from bench import records
from bench.reporting.progress import Reporter
from bench.reporting.tensorboard import TensorBoard, scalars
from tests.bench.builders import interrupted_after_an_epoch, row, run

LINE = "--network resnet4 --num_epochs 3 --train-images 20 --test-images 10 --batch_size 10"


def events(folder):
    """{chart: [(epoch, value), …]}"""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reading.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def check_like_the_record(results, name):
    run = records.read_run(results / "smoke" / name)
    found = events(results / "smoke" / "tensorboard" / name)
    for tag, values in found.items():
        expected = [(row.epoch, dict(scalars(row))[tag]) for row in run.epochs]
        assert values == [(epoch, pytest.approx(value)) for epoch, value in expected], tag
    assert set(found) == set(dict(scalars(run.epochs[0])))


def test_events_are_the_record(tmp_path):
    line = [*LINE.split(), "--gradient", "baseline,anode", "--out", str(tmp_path), "--tensorboard"]
    assert run_bench.main(line) == 0
    names = [f.name for f in (tmp_path / "smoke").iterdir() if "-seed0" in f.name]
    assert len(names) == 2
    for name in names:
        check_like_the_record(tmp_path, name)


def test_events_of_a_run_that_went_on_are_the_record(tmp_path):
    """Though it was begun without TensorBoard."""
    line = [*LINE.split(), "--gradient", "anode", "--out", str(tmp_path)]
    with interrupted_after_an_epoch():
        assert run_bench.main(line) == 130
    assert run_bench.main([*line, "--tensorboard"]) == 0
    (name,) = [f.name for f in (tmp_path / "smoke").iterdir() if "-seed0" in f.name]
    check_like_the_record(tmp_path, name)


class Silent(Reporter):
    def run_started(self, experiment): ...
    def run_finished(self, run): ...


def test_run_of_another_process_is_written_at_its_end(tmp_path):
    made = run("a", suite="smoke", epochs=[row(1), row(2)])
    records.write_run(tmp_path, made)
    with TensorBoard(Silent(), tmp_path / "smoke") as board:
        board.run_finished(made)
    check_like_the_record(tmp_path, "a")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    for module in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = [*LINE.split(), "--out", str(tmp_path / "out"), "--tensorboard"]
    assert run_bench.main(line) == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "tensorboard").write_text("in the way")
    line = [*LINE.split(), "--gradient", "anode", "--out", str(tmp_path), "--tensorboard"]
    assert run_bench.main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write ")
    assert said.count("\n") == 1
