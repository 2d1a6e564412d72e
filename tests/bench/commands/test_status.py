"""--status and --list: what is done, running, stopped, failed and left."""

import re
import signal
import subprocess
import sys

import pytest

import run_bench
from bench import records
from bench.commands import list, status
from bench.execution import checkpointing, position
from bench.execution.run import record_experiment
from bench.records import locks
from bench.reporting.remaining import Position
from bench.suites import SUITES
from bench.training import checkpoint
from tests.bench.builders import experiment, ran, workload
from tests.bench.execution.test_resume import Heard

SMALL = {"train_images": 20, "test_images": 10, "batch_size": 10, "num_epochs": 2}


@pytest.fixture
def place(tmp_path):
    return workload(tmp_path)


def state_of(place, one):
    (found,) = status.of_runs(place.folder, [one])
    assert found.name == one.name
    return found


def recorded(place, one, **changes):
    made = ran(place, one)
    records.write_run(place.results, made.__class__(**{**vars(made), **changes}))


def test_nothing_is_written_by_looking(place):
    assert state_of(place, experiment(**SMALL)).state == "left"
    assert not place.folder.exists()


@pytest.mark.parametrize(
    ("recorded_as", "shown"),
    [("ok", "done"), ("diverged", "done"), ("oom", "done"), ("failed", "failed")],
)
def test_what_is_recorded_is_shown_with_its_end(place, recorded_as, shown):
    one = experiment(**SMALL)
    recorded(place, one, status=recorded_as, reason="ValueError: because")
    found = state_of(place, one)
    assert (found.state, found.epochs) == (shown, 2)
    assert ("because" in found.detail) == (recorded_as != "ok")
    assert status.others(place.folder, [one]) == 0
    assert status.others(place.folder, []) == 1


def test_run_that_was_stopped_is_shown_with_how_far_it_came(place, monkeypatch):
    monkeypatch.setattr(checkpointing, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    one = experiment(**SMALL)

    class Stops(Heard):
        def epoch_finished(self, experiment, row):
            super().epoch_finished(experiment, row)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        record_experiment(place, one, Stops(), None)
    assert state_of(place, one) == status.State(one.name, "stopped", 1, "in epoch 2, 0 steps")
    (place.folder / one.name / checkpoint.NAME).write_bytes(b"no checkpoint")
    assert "cannot be used: it does not begin as a checkpoint" in state_of(place, one).detail


def test_run_of_another_process_is_shown_as_running(place):
    one = experiment(**SMALL)
    code = (
        "import sys, time, pathlib; from bench.records import locks\n"
        "with locks.claim(pathlib.Path(sys.argv[1]), sys.argv[2]):\n"
        "    print(flush=True), time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(place.folder), one.name], stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        assert state_of(place, one).state == "running"
        run = place.folder / one.name
        run.mkdir()
        position.PositionWriter(place.folder).stepped(one, Position(1, 7, 2.5))
        assert state_of(place, one).detail == "in epoch 1, 7 steps"
        (run / position.NAME).write_text("{")  # while it is written
        assert state_of(place, one).detail == ""
        assert not locks.is_held(place.folder, "another")
    finally:
        other.kill()
        other.communicate()
    assert state_of(place, one).state == "left"


def test_damaged_record_is_shown_as_one(place):
    one = experiment(**SMALL)
    recorded(place, one)
    (place.folder / one.name / records.EPOCHS).write_text("")
    found = state_of(place, one)
    assert found.state == "damaged"
    assert "epochs.csv is damaged" in found.detail


def test_cases_that_are_measured_are_counted(tmp_path, capsys):
    line = ["--suite", "memory", "--network", "resnet4", "--Nt", "1", "--out", str(tmp_path)]
    assert run_bench.main([*line, "--status"]) == 0
    assert not [*tmp_path.iterdir()]
    assert run_bench.main([*line, "--gradient", "anode"]) == 0
    assert run_bench.main([*line, "--status", "--gradient", "anode"]) == 0
    assert run_bench.main([*line, "--status", "--gradient", "anode,node"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"memory in \S+: left, 0 of \d+ cases measured", said)
    assert re.search(r"memory in \S+: done, (\d+) of \1 cases measured", said)
    assert re.search(r"memory in \S+: stopped, \d+ of \d+ cases measured", said)
    (tmp_path / "memory" / records.MEASUREMENTS).write_text("")
    assert run_bench.main([*line, "--status"]) == 0
    assert "memory in" in capsys.readouterr().out


def test_command_prints_a_line_for_each_run_and_how_many_there_are(tmp_path, capsys):
    line = ["--network", "resnet4", "--num_epochs", "2"]
    line += ["--train-images", "20", "--test-images", "10", "--out", str(tmp_path)]
    assert run_bench.main([*line, "--gradient", "anode"]) == 0
    capsys.readouterr()
    assert run_bench.main([*line, "--gradient", "anode,node", "--status"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"anode-seed0\S+ +done +2/2  test accuracy", said)
    assert re.search(r"node-seed0\S+ +left +0/2\n", said)
    assert said.strip().endswith("1 done, 1 left")
    assert run_bench.main(["--status", "--out", str(tmp_path)]) == 0
    assert "12 left; 1 run with other options besides" in capsys.readouterr().out


def test_what_a_suite_measures_anew_each_time_is_measured_and_not_done(tmp_path, capsys):
    rows = [records.ReversalRow("linear-100", "none", "euler", 1, 1, 0.0, "float64", 0, 0.5, "ok",
                                2, "cpu", "none", "none")]  # fmt: skip
    file = tmp_path / "reversibility" / records.MEASUREMENTS
    records.write_rows(file, records.ReversalRow, rows, [{"recorded_at": "2026-01-02"}])
    assert run_bench.main(["--suite", "reversibility", "--status", "--out", str(tmp_path)]) == 0
    assert "measured, 1 row, 2026-01-02" in capsys.readouterr().out


def test_list_says_how_much_of_each_suite_is_recorded(tmp_path, capsys):
    one = SUITES["smoke"].experiments()[0]
    made = ran(workload(tmp_path), experiment(**SMALL))
    made = made.__class__(**{**vars(made), "suite": "smoke", "name": one.name})
    records.write_run(tmp_path, made)
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    assert re.search(r"smoke +│ 12 +│ 1 done, 11 left", capsys.readouterr().out)


def test_list_measures_only_for_an_estimate(tmp_path, capsys, monkeypatch):
    timed = []
    monkeypatch.setattr(list, "measure_step_costs", lambda w, e, **k: timed.append(w.suite) or [])
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    assert not timed
    assert "time here" not in capsys.readouterr().out
    assert run_bench.main(["--list", "--estimate", "--out", str(tmp_path)]) == 0
    assert timed == [suite.name for suite in SUITES.values() if suite.trains]
    assert "time here" in capsys.readouterr().out
    assert run_bench.main(["--estimate", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: --estimate needs --list: give both\n"


def test_list_says_which_suites_lack_a_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("COLUMNS", "400")
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("not here: anode-revolve needs the package") == 4


@pytest.mark.parametrize("line", ["--status", "--list", "--suite memory --status"])
def test_place_that_is_no_folder_is_refused(line, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_bench.main([*line.split(), "--out", str(tmp_path / "file")]) == 2
    assert re.fullmatch(r"error: .*is no folder: name another --out\n", capsys.readouterr().err)


def test_folder_that_is_not_there_yet_is_said(tmp_path, capsys):
    assert run_bench.main(["--status", "--out", str(tmp_path / "mistyped")]) == 0
    assert "mistyped (not there yet): 12 left" in capsys.readouterr().out
