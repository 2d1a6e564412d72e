"""Processes that share a results folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import records
from bench.execution.executors import Local, run_all, step_costs
from bench.execution.work_queue import left_to_run
from bench.records import locks
from bench.training import checkpoint
from tests.bench.builders import experiment, ran, row, run, workload
from tests.bench.execution.test_processes import Heard

ROOT = Path(__file__).parents[3]
SMALL = {"num_epochs": 1, "train_images": 20, "test_images": 10, "batch_size": 10}
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
    """A function that starts a process which holds a lock until it is killed."""
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_LOOKS", 0.05)
    processes = []

    def hold(folder, name):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), name], cwd=ROOT, stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout.readline() == b"True\n"
        return process

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
    other.kill()
    other.wait()
    with locks.claim(tmp_path, "a") as is_ours:
        assert is_ours
        assert locks.is_held(tmp_path, "a")
    assert not locks.is_held(tmp_path, "a")


def test_waiting_for_a_lock_is_told_once(tmp_path, other_process):
    other, said = other_process(tmp_path, "a"), []

    def busy():
        said.append("busy")
        other.kill()

    with locks.wait_for(tmp_path, "a", busy):
        assert said == ["busy"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_run_of_a_process_that_dies_is_taken_over_at_the_end(tmp_path, other_process, jobs):
    first, second = experiment(**SMALL), experiment(**SMALL, seed=1)
    place = workload(tmp_path, jobs=jobs)
    other = other_process(place.folder, first.name)
    heard = Heard(epoch_finished=other.kill)  # which is the second's
    runs = run_all(place, [first, second], heard)
    assert heard.notes == [
        f"{first.name}: another process is running it: looked at again at the end"
    ]
    for one in (first, second):
        own = [what for name, what in heard.told if name == one.name]
        assert own == ["started", 1, "ok"]
    assert heard.told[0] == (second.name, "started")
    assert sorted(run.name for run in runs) == sorted([first.name, second.name])


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_experiment_that_another_process_recorded_is_not_run_again(tmp_path, other_process, status):
    first, second = experiment(**SMALL), experiment(**SMALL, seed=1)
    place = workload(tmp_path)
    other = other_process(place.folder, first.name)

    def recorded():
        made = ran(place, first)
        records.write_run(place.results, made.__class__(**{**vars(made), "status": status}))
        other.kill()

    heard = Heard(epoch_finished=recorded)
    runs = run_all(place, [first, second], heard)
    assert heard.notes[1:] == [f"{first.name}: another process has run it"]
    assert heard.told[3:] == [(first.name, "started"), (first.name, status)]
    (found,) = [run for run in runs if run.name == first.name]
    assert len(found.epochs) == 1
    assert left_to_run(place, [first], print) == ([] if status == "ok" else [first])


def test_run_is_read_back_whole(tmp_path):
    nothing = {"gradient_error": None, "gradient_cosine": None}
    nothing |= {"gradient_error_blocks": (), "gradient_cosine_blocks": ()}
    for epochs in ([row(1), row(2, test_loss=1 / 3)], [row(1, **nothing)], []):
        made = run("a", epochs=epochs)
        assert records.read_run(records.write_run(tmp_path, made)) == made
    assert records.read_run(tmp_path / "nowhere") is None


def test_checkpoint_of_a_recorded_run_is_removed(tmp_path):
    one, place = experiment(**SMALL), workload(tmp_path)
    records.write_run(place.results, ran(place, one))
    left = place.folder / one.name / checkpoint.NAME
    left.write_bytes(b"")
    assert left_to_run(place, [one], print) == []
    assert not left.exists()


def test_step_costs_of_two_processes_are_all_recorded(tmp_path, other_process):
    place = workload(tmp_path)
    other = other_process(place.folder, locks.MEASUREMENTS)
    there = workload(tmp_path / "theirs")
    theirs = step_costs(Local(), there, [experiment(**SMALL)], print)

    file = place.folder / records.MEASUREMENTS

    def meanwhile(line):
        assert line == locks.WAITING
        records.write_rows(file, records.Measurement, theirs)
        other.kill()

    ours = experiment(**SMALL, gradient="backprop")
    found = step_costs(Local(), place, [ours], meanwhile)
    assert {m.gradient for m in found} == {"anode", "backprop"}
    assert records.read_rows(file, records.Measurement) == found


def test_file_system_without_locks_is_an_error_in_one_line(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", refused)
    with (
        pytest.raises(locks.UsageError, match="No locks available.: choose another --out"),
        locks.claim(tmp_path, "a"),
    ):
        pass
