"""Processes that share a results folder."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import records
from bench.execution import position
from bench.execution.executors import Local, run_all, step_costs
from bench.execution.run import record_experiment
from bench.execution.watch import RunWatcher
from bench.execution.work_queue import left_to_run
from bench.records import locks
from bench.training import checkpoint
from tests.bench.builders import ONE_EPOCH, Heard, experiment, ran, record_of, row, workload

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from bench.records import locks
with locks.claim(Path(sys.argv[1]), sys.argv[2]) as is_ours:
    print(is_ours, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_process(monkeypatch):
    """Call it: another process holds that lock until it is killed."""
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_LOOKS", 0.05)
    processes = []

    def hold(folder, name):
        command = [sys.executable, "-c", HOLD, str(folder), name]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == b"True\n"
        return processes[-1]

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_lock_of_a_process_that_is_killed_is_taken_over(tmp_path, other_process):
    other = other_process(tmp_path, "a")
    assert locks.is_held(tmp_path, "a")
    assert not locks.is_held(tmp_path, "b")
    with locks.claim(tmp_path, "a") as is_ours:
        assert not is_ours
    told = []

    def busy():
        told.append("busy")
        other.kill()

    with locks.wait_for(tmp_path, "a", busy):
        assert told == ["busy"]
        assert locks.is_held(tmp_path, "a")
    assert not locks.is_held(tmp_path, "a")


class Here:
    """A pool whose processes are this one."""

    def __init__(self, place):
        self._place, self._ended = place, []

    def start(self, of, stamp):
        with position.written(self._place, of) as listener:
            record_experiment(self._place, of, listener, stamp)
        self._ended.append((of, None))

    def ended(self, seconds):
        time.sleep(seconds)
        while self._ended:
            yield self._ended.pop()


def watched(place, experiments, heard):
    return RunWatcher(place, experiments, heard).run_all(Here(place), 2)


@pytest.mark.parametrize("run_all", [run_all, watched])
def test_run_of_a_process_that_dies_is_taken_over_at_the_end(tmp_path, other_process, run_all):
    first, second = experiment(**ONE_EPOCH), experiment(**ONE_EPOCH, seed=1)
    place = workload(tmp_path)
    other = other_process(place.folder, first.name)
    heard = Heard(lambda row: other.kill())  # after the second's epoch
    runs = run_all(place, [first, second], heard)
    assert heard.notes == [
        f"{first.name}: another process is running it: looked at again at the end"
    ]
    assert heard.events(first) == heard.events(second) == ["started", 1, "ok"]
    assert heard.told[0] == (second.name, "started")
    assert sorted(run.name for run in runs) == sorted([first.name, second.name])


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_experiment_that_another_process_recorded_is_not_run_again(tmp_path, other_process, status):
    first, second = experiment(**ONE_EPOCH), experiment(**ONE_EPOCH, seed=1)
    place = workload(tmp_path)
    other = other_process(place.folder, first.name)

    def record(row):
        made = ran(place, first)
        records.write_run(place.results, replace(made, status=status))
        other.kill()

    heard = Heard(record)
    runs = run_all(place, [first, second], heard)
    assert heard.notes[1:] == [f"{first.name}: another process has run it"]
    assert heard.told[3:] == [(first.name, "started"), (first.name, status)]
    (found,) = [run for run in runs if run.name == first.name]
    assert len(found.epochs) == 1
    assert left_to_run(place, [first], print) == ([] if status == "ok" else [first])


def test_checkpoint_of_a_recorded_run_is_removed(tmp_path):
    one, place = experiment(), workload(tmp_path)
    records.write_run(place.results, record_of(one, data=place.dataset.described))
    left = place.folder / one.name / checkpoint.NAME
    left.write_bytes(b"")
    assert left_to_run(place, [one], print) == []
    assert not left.exists()


def test_damaged_record_is_set_aside_and_run_again(tmp_path):
    one, place, said = experiment(), workload(tmp_path), []
    made = record_of(one, data=place.dataset.described, epochs=[row(1)])
    folder = records.write_run(place.results, made)
    (folder / records.EPOCHS).write_text("")
    assert left_to_run(place, [one], said.append) == [one]
    assert "epochs.csv is damaged" in said[0]
    assert {file.name for file in folder.iterdir()} == {"run.json.damaged", "epochs.csv.damaged"}


def test_step_costs_of_two_processes_are_all_recorded(tmp_path, other_process):
    place = workload(tmp_path)
    other, file = other_process(place.folder, locks.MEASUREMENTS), place.folder / "measurements.csv"
    theirs = step_costs(Local(), workload(tmp_path / "a"), [experiment(**ONE_EPOCH)], print)

    file = place.folder / records.MEASUREMENTS

    def meanwhile(line):
        assert line == locks.WAITING
        records.write_rows(file, records.Measurement, theirs)
        other.kill()

    found = step_costs(Local(), place, [experiment(**ONE_EPOCH, gradient="backprop")], meanwhile)
    assert {m.gradient for m in found} == {"anode", "backprop"}
    assert records.read_rows(file, records.Measurement) == found


def test_file_system_without_locks_is_an_error_in_one_line(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", refused)
    error = pytest.raises(locks.UsageError, match="No locks available.: choose another --out")
    with error, locks.claim(tmp_path, "a"):
        pass
