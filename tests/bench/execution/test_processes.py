"""Runs in processes of their own. Each takes seconds to import PyTorch, so there are few tests."""

import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

import run_bench
import solvers
from bench import environment
from bench.errors import UsageError
from bench.execution import processes
from bench.execution.executors import run_all
from bench.execution.work_queue import left_to_run
from bench.records import locks
from tests.bench.builders import ONE_EPOCH, ONE_EPOCH_LINE, Heard, experiment, workload
from tests.faults.command import without_clock

MARK = "BENCH_TEST_MARK"
"""Environment variable: the path of a file through which a worker and its test communicate."""


class SideEffect:
    """The gradient method backprop, with a side effect on a worker process."""

    name = "does something to its process"

    def __init__(self, effect):
        self.effect = effect

    def solve(self, rhs, z0, method, n_steps):
        if multiprocessing.parent_process() is not None:
            self.effect(Path(os.environ[MARK]))
        return solvers.odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")


IS_SLOW = SideEffect(lambda mark: time.sleep(0.1))
DIES = SideEffect(
    lambda mark: os.kill(os.getpid(), signal.SIGKILL) if mark.exists() else time.sleep(0.1)
)


def interrupt_once(mark):
    """Send Ctrl-C to the command when both of its runs have begun."""
    if not mark.exists() and len(list(mark.parent.rglob("checkpoint.pt"))) == 2:
        mark.touch()
        os.kill(os.getppid(), signal.SIGINT)


INTERRUPTS = SideEffect(interrupt_once)
IS_INTERRUPTED = SideEffect(lambda mark: os.kill(os.getpid(), signal.SIGINT))


@pytest.fixture(autouse=True)
def mark(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    return tmp_path / "mark"


def recorded(place, of):
    """run.json without what depends on the clock, and epochs.csv likewise."""
    content = json.loads((place.folder / of.name / "run.json").read_text())
    for part, names in (
        ("environment", ("recorded_at", "started_at")),
        ("summary", ("seconds", "overhead")),
    ):
        for name in names:
            del content[part][name]
    del content["sha256"], content["epochs_sha256"]
    return content, without_clock(place.folder / of.name / "epochs.csv")


def test_runs_at_once_leave_the_records_of_single_runs(tmp_path):
    experiments = [
        experiment(**{**ONE_EPOCH, "num_epochs": 2}, seed=seed, gradient=gradient)
        for seed, gradient in ((0, "anode"), (0, "node"))
    ]
    alone, together = workload(tmp_path / "one"), workload(tmp_path / "two", jobs=2)
    heard = Heard()
    with environment.threads(1):
        run_all(alone, experiments, Heard())
    with environment.threads(2):
        runs = run_all(together, experiments, heard)
        assert torch.get_num_threads() == 2
    assert [run.name for run in runs] == [e.name for e in experiments]
    assert heard.most_running == 2
    for e in experiments:
        assert heard.events(e) == ["started", 1, 2, "ok"]
        (one, rows), (two, rows_together) = recorded(alone, e), recorded(together, e)
        assert rows == rows_together
        assert (one["environment"].pop("jobs"), two["environment"].pop("jobs")) == (1, 2)
        assert one["environment"]["threads"] == 1
        assert one["environment"]["command"].endswith(shlex.join(sys.argv[1:]))
        assert one == two
    assert left_to_run(together, experiments, print) == []


def test_worker_that_dies_is_a_failed_run_and_the_others_go_on(tmp_path, mark):
    dies = experiment(**{**ONE_EPOCH, "num_epochs": 10_000}, gradient=f"{__name__}:DIES")
    # A terminal sends Ctrl-C to all processes; workers ignore it.
    other = experiment(**ONE_EPOCH, gradient=f"{__name__}:IS_INTERRUPTED")
    place = workload(tmp_path, jobs=3)
    with environment.threads(3):
        died, lived = run_all(place, [dies, other], Heard(lambda row: mark.touch()))
    assert (died.status, lived.status) == ("failed", "ok")
    assert "the worker process died (signal 9, SIGKILL)" in died.reason
    content, rows = recorded(place, dies)
    assert (content["reason"], content["environment"]["threads"]) == (died.reason, 1)
    assert rows.count("\n") - 1 == len(died.epochs) == content["summary"]["epochs"]
    assert left_to_run(place, [dies, other], print) == [dies]


def test_resumed_run_is_reported_from_its_checkpoint_and_between_its_epochs(tmp_path):
    # Slow in the worker alone, so that the run does not end between two looks.
    of = experiment(**{**ONE_EPOCH, "num_epochs": 3}, gradient=f"{__name__}:IS_SLOW")

    def stop(row):
        if row.epoch == 2:  # there is a checkpoint of the first
            raise KeyboardInterrupt

    here, there = Heard(stop), Heard()
    with environment.threads(1):  # as many as a worker has, which is else a part of the note
        with pytest.raises(KeyboardInterrupt):
            run_all(workload(tmp_path), [of], here)
        (run,) = run_all(workload(tmp_path, jobs=2), [of], there)
    assert run.environment["resumed_at"] == [2]
    assert there.events(of) == ["started", "resumed", 2, 3, "ok"]
    assert there.notes == [f"{of.name}: goes on in epoch 2"]
    assert (here.positions[0], there.positions[0][0]) == ((1, 1), 2)
    assert not list(tmp_path.rglob("position.json"))


def test_interrupted_command_leaves_checkpoints_and_no_process(tmp_path, mark, capsys):
    line = ONE_EPOCH_LINE.replace("--num_epochs 1", "--num_epochs 10000 --jobs 2").split()
    own = ["--gradient", f"anode,{__name__}:INTERRUPTS", "--out", str(tmp_path)]
    assert run_bench.main([*line, *own]) == 130
    said = capsys.readouterr().err
    assert "interrupted: finished runs are recorded, others have checkpoints" in said
    assert multiprocessing.active_children() == []
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 2


def test_record_that_cannot_be_written_ends_the_suite_and_its_workers(tmp_path):
    slow = experiment(**{**ONE_EPOCH, "num_epochs": 10_000}, gradient=f"{__name__}:IS_SLOW")
    other, place = experiment(**ONE_EPOCH), workload(tmp_path, jobs=2)
    (place.folder / other.name / "epochs.csv").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write .*what is recorded already is kept"):
        run_all(place, [slow, other], Heard())
    assert multiprocessing.active_children() == []


def test_too_little_shared_memory_is_an_error_with_advice(tmp_path, monkeypatch):
    def no_room(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_room)
    with pytest.raises(UsageError, match="MB of data do not fit .*--shm-size"):
        processes.run_all(workload(tmp_path, jobs=2), [experiment(**ONE_EPOCH)], Heard())
