"""Runs in processes. Each worker takes seconds to import PyTorch: few tests ask much of each."""

import contextlib
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import solvers
from bench import environment, records
from bench.errors import UsageError
from bench.execution import processes
from bench.execution.executors import run_all
from bench.execution.work_queue import left_to_run
from bench.records import WALL_CLOCK_COLUMNS, locks
from tests.bench.builders import experiment, workload

ROOT = Path(__file__).parents[3]
SMALL = {"num_epochs": 1, "train_images": 20, "test_images": 10, "batch_size": 10}
MARK = "BENCH_TEST_MARK"
"""Environment variable: the path of a file through which a worker and its test communicate."""


class Backprop:
    """The gradient method backprop, with a side effect on its process."""

    name = "does something to its process"

    def happens(self, mark):
        raise NotImplementedError

    def solve(self, rhs, z0, method, n_steps):
        if multiprocessing.parent_process() is not None:
            self.happens(Path(os.environ[MARK]))
        return solvers.odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")


class Dies(Backprop):
    def happens(self, mark):
        if mark.exists():
            os.kill(os.getpid(), signal.SIGKILL)


class IsSlow(Backprop):
    def happens(self, mark):
        mark.touch()
        time.sleep(0.1)


class IsInterrupted(Backprop):
    def happens(self, mark):
        os.kill(os.getpid(), signal.SIGINT)


DIES, IS_SLOW, IS_INTERRUPTED = Dies(), IsSlow(), IsInterrupted()


class Heard:
    """A reporter that keeps its events."""

    def __init__(self, epoch_finished=lambda: None):
        self.told, self.running, self.most, self.notes = [], set(), 0, []
        self.positions = []
        self._epoch_finished = epoch_finished

    def run_started(self, started):
        self.told.append((started.name, "started"))
        self.running.add(started.name)
        self.most = max(self.most, len(self.running))

    def stepped(self, of, position):
        self.positions.append((position.epoch, position.step))
        assert position.loss > 0

    def epoch_finished(self, of, row):
        self.told.append((of.name, row.epoch))
        self._epoch_finished()

    def run_resumed(self, of, rows):
        self.told.append((of.name, "resumed"))

    def run_postponed(self, of):
        self.told.append((of.name, "postponed"))
        self.running.remove(of.name)

    def note(self, line):
        self.notes.append(line)

    def run_finished(self, run):
        self.told.append((run.name, run.status))
        self.running.remove(run.name)


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_LOOKS", 0.05)


@pytest.fixture
def mark(tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    return tmp_path / "mark"


def recorded(folder, name):
    content = json.loads((folder / name / "run.json").read_text())
    return content, pd.read_csv(folder / name / "epochs.csv", dtype=str)


def test_runs_at_once_leave_the_records_of_single_runs(tmp_path):
    experiments = [
        experiment(**{**SMALL, "num_epochs": 2, "seed": seed, "gradient": gradient})
        for seed, gradient in ((0, "anode"), (0, "node"), (1, "node"))
    ]
    alone, together = workload(tmp_path / "one"), workload(tmp_path / "two", jobs=2)
    heard = Heard()
    with environment.threads(1):
        run_all(alone, experiments, Heard())
    with environment.threads(2):
        runs = run_all(together, experiments, heard)
        assert torch.get_num_threads() == 2

    assert [run.name for run in runs] == [e.name for e in experiments]
    assert heard.most == 2
    for e in experiments:
        told = [what for name, what in heard.told if name == e.name]
        assert told == ["started", 1, 2, "ok"]
        one, rows = recorded(alone.folder, e.name)
        two, rows_together = recorded(together.folder, e.name)
        clock = list(WALL_CLOCK_COLUMNS)
        pd.testing.assert_frame_equal(rows.drop(columns=clock), rows_together.drop(columns=clock))
        assert (one["environment"].pop("jobs"), two["environment"].pop("jobs")) == (1, 2)
        for content in (one, two):
            del content["environment"]["recorded_at"], content["environment"]["started_at"]
            del content["sha256"], content["epochs_sha256"]  # the clock is in them
            del content["summary"]["seconds"], content["summary"]["overhead"]
        assert one["environment"]["threads"] == 1
        assert one["environment"]["command"].endswith(shlex.join(sys.argv[1:]))
        assert one == two
    assert left_to_run(together, experiments, print) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_position_of_a_run_is_reported_between_its_epochs(tmp_path, mark, jobs):
    heard = Heard()
    run_all(
        workload(tmp_path, jobs=jobs), [experiment(**SMALL, gradient=f"{__name__}:IS_SLOW")], heard
    )
    assert heard.positions[0] == (1, 1)
    assert not list(tmp_path.rglob("position.json"))


def test_worker_that_dies_is_a_failed_run_and_the_others_go_on(tmp_path, mark):
    dies = experiment(**{**SMALL, "num_epochs": 10_000}, gradient=f"{__name__}:DIES")
    # A terminal sends Ctrl-C to all processes; workers ignore it.
    other = experiment(**SMALL, gradient=f"{__name__}:IS_INTERRUPTED")
    place = workload(tmp_path, jobs=3)
    with environment.threads(6):
        died, lived = run_all(place, [dies, other], Heard(epoch_finished=mark.touch))
    assert (died.status, lived.status) == ("failed", "ok")
    assert "the worker process died (signal 9, SIGKILL)" in died.reason
    content, rows = recorded(place.folder, dies.name)
    assert content["reason"] == died.reason
    assert content["environment"]["threads"] == 2
    assert len(rows) == len(died.epochs) == content["summary"]["epochs"]
    assert left_to_run(place, [dies, other], print) == [dies]


def test_resumed_run_is_reported_from_its_checkpoint(tmp_path):
    of = experiment(**{**SMALL, "num_epochs": 3})
    place = workload(tmp_path, jobs=2)

    class Stops(Heard):
        def epoch_finished(self, experiment, row):
            if row.epoch == 2:  # there is a checkpoint of the first
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(workload(tmp_path), [of], Stops())
    heard = Heard()
    (run,) = run_all(place, [of], heard)
    assert run.environment["resumed_at"] == [2]
    assert heard.told == [(of.name, what) for what in ("started", "resumed", 2, 3, "ok")]
    assert heard.notes == [f"{of.name}: goes on in epoch 2"]


def test_record_that_cannot_be_written_ends_the_suite_and_its_workers(tmp_path, mark):
    endless = {**SMALL, "num_epochs": 10_000}
    slow, other = experiment(**endless, gradient=f"{__name__}:IS_SLOW"), experiment(**SMALL)
    place = workload(tmp_path, jobs=2)
    (place.folder / other.name / "epochs.csv").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write .*what is recorded already is kept"):
        run_all(place, [slow, other], Heard())
    assert multiprocessing.active_children() == []


def test_too_little_shared_memory_is_an_error_with_advice(tmp_path, monkeypatch):
    def no_room(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_room)
    with pytest.raises(UsageError, match="MB of data do not fit .*--shm-size"):
        processes.run_all(workload(tmp_path, jobs=2), [experiment(**SMALL)], Heard())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_suite_leaves_complete_records_and_no_process(tmp_path, mark, number):
    small = "--network resnet4 --num_epochs 4 --train-images 640 --test-images 10 --jobs 2"
    small += " --batch_size 10"
    options = [*small.split(), "--gradient", f"baseline,{__name__}:IS_SLOW", "--out", str(tmp_path)]
    suite = subprocess.Popen(
        [sys.executable, "run_bench.py", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell in the background has its children ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        said = "".join(iter(lambda: line_before("[1/2]", suite.stdout), ""))
        while not mark.exists():
            assert suite.poll() is None
            time.sleep(0.1)
        if number == signal.SIGINT:  # a terminal sends it to all
            os.killpg(suite.pid, number)
        else:
            suite.send_signal(number)
        # Every process of the suite holds the pipes: they end when the last one has.
        _, errors = suite.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(suite.pid, signal.SIGKILL)
    assert suite.returncode == (130 if number == signal.SIGINT else -number), said
    assert "Traceback" not in errors
    assert ("interrupted" in errors) == (number == signal.SIGINT)
    runs = records.load_runs(tmp_path)
    assert runs["gradient"].tolist() == ["baseline"]
    assert runs["status"].tolist() == ["ok"]
    assert [file.name for file in tmp_path.rglob(".*")] == [".locks"]
    (left,) = tmp_path.rglob("checkpoint.pt")
    assert "IS_SLOW" in left.parent.name


def line_before(mark, stream):
    """Return the next line, or "" if it begins with the mark."""
    line = stream.readline()
    return "" if line.startswith(mark) else line
