"""--status and --list: what is done, running, stopped, failed and left."""

import re
import signal

import pytest

import run_bench
from bench import records
from bench.commands import list, status
from bench.execution import checkpointing
from bench.execution.run import record_experiment
from bench.records import locks
from bench.suites import SUITES, Suite
from bench.training import checkpoint
from tests.bench.builders import ONE_EPOCH, Heard, experiment, record_of, row, workload

ONE = experiment(**{**ONE_EPOCH, "num_epochs": 2})


@pytest.fixture
def place(tmp_path):
    return workload(tmp_path)


def state_of(place):
    (found,) = status.of_runs(place.folder, [ONE])
    assert found.name == ONE.name
    return found


def recorded(place, **changes):
    return records.write_run(place.results, record_of(ONE, epochs=[row(1), row(2)], **changes))


@pytest.mark.parametrize(
    ("recorded_as", "shown"),
    [("ok", "done"), ("diverged", "done"), ("oom", "done"), ("failed", "failed")],
)
def test_recorded_run_is_shown_with_its_end(place, recorded_as, shown):
    assert state_of(place).state == "left"
    assert not place.folder.exists()  # nothing is written by looking
    recorded(place, status=recorded_as, reason="ValueError: because")
    found = state_of(place)
    assert (found.state, found.epochs) == (shown, 2)
    assert ("because" in found.detail) == (recorded_as != "ok")
    assert (status.others(place.folder, [ONE]), status.others(place.folder, [])) == (0, 1)


def test_damaged_record_is_shown_as_damaged(place):
    (recorded(place) / records.EPOCHS).write_text("")
    assert state_of(place).state == "damaged"
    assert "epochs.csv is damaged" in state_of(place).detail


def test_stopped_run_is_shown_with_its_progress(place, monkeypatch):
    monkeypatch.setattr(checkpointing, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    stop = Heard(lambda row: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        record_experiment(place, ONE, stop, None)
    assert state_of(place) == status.State(ONE.name, "stopped", 1, "in epoch 2, 0 steps")
    assert checkpointing.reached(place, ONE) == (2, 0)
    (place.folder / ONE.name / checkpoint.NAME).write_bytes(b"no checkpoint")
    assert "cannot be used: it does not begin as a checkpoint" in state_of(place).detail
    assert checkpointing.reached(place, ONE) == (1, 0)


def test_run_of_another_process_is_shown_as_running(place):
    with locks.claim(place.folder, ONE.name):
        assert state_of(place).state == "running"
    assert state_of(place).state == "left"


def test_measured_cases_are_counted(tmp_path, capsys):
    line = ["--suite", "memory", "--network", "resnet4", "--Nt", "1", "--out", str(tmp_path)]
    assert run_bench.main([*line, "--status"]) == 0
    assert not [*tmp_path.iterdir()]
    assert run_bench.main([*line, "--gradient", "anode"]) == 0
    for gradients in ("anode", "anode,node"):
        assert run_bench.main([*line, "--status", "--gradient", gradients]) == 0
    said = capsys.readouterr().out
    assert re.search(r"memory in \S+: left, 0 of \d+ cases measured", said)
    assert re.search(r"memory in \S+: done, (\d+) of \1 cases measured", said)
    assert re.search(r"memory in \S+: stopped, \d+ of \d+ cases measured", said)
    (tmp_path / "memory" / records.MEASUREMENTS).write_text("")
    assert run_bench.main([*line, "--status"]) == 0
    assert "memory in" in capsys.readouterr().out


def test_suite_that_is_measured_anew_each_time_is_measured_and_not_done(tmp_path, capsys):
    rows = [records.ReversalRow("linear-100", "none", "euler", 1, 1, 0.0, "float64", 0, 0.5, "ok",
                                2, "cpu", "none", "none")]  # fmt: skip
    file = tmp_path / "reversibility" / records.MEASUREMENTS
    records.write_rows(file, records.ReversalRow, rows, [{"recorded_at": "2026-01-02"}])
    assert run_bench.main(["--suite", "reversibility", "--status", "--out", str(tmp_path)]) == 0
    assert "measured, 1 row, 2026-01-02" in capsys.readouterr().out


def test_status_and_list_say_how_much_is_recorded(tmp_path, capsys):
    (one,) = SUITES["smoke"].replaced(networks=("resnet4",), gradients=("anode",)).experiments()
    epochs = [row(epoch + 1) for epoch in range(one.num_epochs)]
    records.write_run(tmp_path, record_of(one, suite="smoke", epochs=epochs))
    line = ["--network", "resnet4", "--gradient", "anode,node", "--status", "--out", str(tmp_path)]
    assert run_bench.main(line) == 0
    said, whole = capsys.readouterr().out, f"{one.num_epochs}/{one.num_epochs}"
    assert re.search(rf"anode-seed0\S+ +done +{whole}  test accuracy", said)
    assert re.search(rf"node-seed0\S+ +left +0/{one.num_epochs}\n", said)
    assert said.strip().endswith("1 done, 1 left")
    assert run_bench.main([*line, "--num_epochs", "9"]) == 0
    assert "2 left; 1 run with other options besides" in capsys.readouterr().out
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    assert re.search(r"smoke +│ 12 +│ 1 done, 11 left", capsys.readouterr().out)


def test_list_measures_only_for_an_estimate(tmp_path, capsys, monkeypatch):
    timed = []
    monkeypatch.setattr(list, "measure_step_costs", lambda w, e, **k: timed.append(w.suite) or [])
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(suite in said for suite in SUITES)
    assert not timed
    assert "time here" not in said
    assert run_bench.main(["--list", "--estimate", "--out", str(tmp_path)]) == 0
    assert timed == [suite.name for suite in SUITES.values() if isinstance(suite, Suite)]
    assert "time here" in capsys.readouterr().out


def test_list_names_the_suites_that_lack_a_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("COLUMNS", "400")
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("not here: anode-revolve needs the package") == 4


@pytest.mark.parametrize("line", ["--status", "--list", "--suite memory --status"])
def test_out_that_is_no_folder_is_refused(line, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/in it"):
        assert run_bench.main([*line.split(), "--out", str(tmp_path / name)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.endswith("file is no folder: name another --out")


def test_missing_folder_is_said(tmp_path, capsys):
    assert run_bench.main(["--status", "--out", str(tmp_path / "mistyped")]) == 0
    assert "mistyped (not there yet): 12 left" in capsys.readouterr().out
