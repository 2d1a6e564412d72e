"""Run experiments on a Ray cluster, one task each. Imports Ray: import this module only for it.

A task works in the results folder as any other process does, so all machines must see that folder.
Ray starts a task again if its process or machine dies, and the task continues from the checkpoint.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

# Ray reads these when it is imported. No line for each worker that dies: it would spoil the
# progress display. Priority of the workers on a cluster started here: by default niceness 15.
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
import torch
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from bench.context import Workload
from bench.environment import describe, prepare
from bench.errors import UsageError, in_a_line, writing
from bench.execution import position
from bench.execution.processes import SECONDS_TO_STOP
from bench.execution.run import record_experiment
from bench.execution.step_costs import measure_step_costs
from bench.execution.watch import RunWatcher
from bench.execution.work_queue import RecordStamp
from bench.experiment import Experiment
from bench.records import Measurement, Run, locks
from bench.records.files import write_whole
from bench.reporting.progress import Reporter
from bench.reporting.terminal import count

RETRIES = 10
"""Restarts of a task whose process or machine died."""

SECONDS_TO_CONNECT = 5.0
SECONDS_WITHOUT_MACHINE = 5 * 60.0
"""Wait for a machine after the last one that fits a task has died."""


@contextmanager
def connected(say: Callable[[str], None]) -> Iterator["Cluster"]:
    """Connect to the cluster at RAY_ADDRESS, or on this machine, or start one that ends with the
    context.

    Raises UsageError if there is no cluster, and if it fails inside.
    """
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"--executor ray: there is no cluster ({_line(error)})") from error
    try:
        yield Cluster(say)
    except RayError as error:
        raise UsageError(
            f"the Ray cluster failed ({_line(error)}): the same command goes on from the last "
            "checkpoints"
        ) from error
    finally:
        ray.shutdown()


class Cluster:
    """The executor: see `executors.Executor`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._environment: Mapping[str, Any] = {}  # of one of its machines

    def find_device(self, name: str) -> torch.device:
        """Ray assigns a GPU to each task, which sees it as its first."""
        if name not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {name}: with --executor ray choose auto, cpu or cuda")
        if name == "auto":
            name = "cuda" if any(machine.get("GPU", 0) >= 1 for machine in machines()) else "cpu"
        device = torch.device("cuda", 0) if name == "cuda" else torch.device("cpu")
        share = Share.of(device, 1)
        self._environment = self._wait_for(share.remote(_describe)(device, share.threads))
        return device

    def device_name(self, device: torch.device) -> str:
        n_machines = count(len(machines()), "machine")
        return f"a Ray cluster of {n_machines} ({self._environment['device_name']})"

    def describe(self, device: torch.device, precision: str) -> Mapping[str, Any]:
        return {**self._environment, "precision": precision}

    def measure_step_costs(
        self, workload: Workload, experiments: Sequence[Experiment]
    ) -> list[Measurement]:
        """On a whole GPU, or a whole machine, of the cluster."""
        share = Share.of(workload.device, 1)
        measure = share.remote(_measure, max_calls=1)
        try:
            return self._wait_for(measure(workload, experiments, share.threads))
        except WorkerCrashedError:  # the run that caused it will be recorded as failed
            self._say("the process that timed steps died: how long the runs take is not known")
            return []

    def run_all(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> list[Run]:
        workload = replace(workload, results=workload.results.absolute())
        watcher = RunWatcher(workload, experiments, reporter)
        with _Tasks(workload, reporter.note) as tasks:
            return watcher.run_all(tasks, len(experiments))  # Ray decides how many at once

    def _wait_for(self, reference: Any) -> Any:
        """Return a task's result. Raises UsageError, in one line, if the task fails."""
        if not ray.wait([reference], timeout=SECONDS_TO_CONNECT * 2)[0]:
            self._say("waiting for a machine of the cluster that is free")
        try:
            return ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from error
            raise UsageError(
                f"--executor ray: a machine of the cluster cannot run this: {_line(error)}"
            ) from error


@dataclass(frozen=True)
class Share:
    """The part of a machine that a task takes, as Ray's resources, and its number of threads."""

    resources: Mapping[str, float]
    threads: int

    @classmethod
    def of(cls, device: torch.device, jobs: int) -> "Share":
        """The share with which `jobs` tasks fit each GPU or, on CPUs, the smallest machine.

        Raises UsageError if no machine fits.
        """
        kind = "GPU" if device.type == "cuda" else "CPU"
        able = [machine for machine in machines() if machine.get(kind, 0) >= 1]
        if not able:
            raise UsageError(
                f"--executor ray: no machine of the cluster has a {kind} for a run: start one that "
                f"has (ray start --address=… --num-{kind.lower()}s=…)"
            )
        at_once = [jobs * (int(m["GPU"]) if kind == "GPU" else 1) for m in able]
        cpus = min(m.get("CPU", 0) / n for m, n in zip(able, at_once, strict=True))
        gpus = 1 / jobs if kind == "GPU" else 0
        # As with `--executor local --jobs`, so that the records are the same.
        threads = max(1, min(torch.get_num_threads() // jobs, int(cpus)))
        return cls({"CPU": _divisible(cpus), "GPU": _divisible(gpus)}, threads)

    def fits(self) -> bool:
        """Return whether a machine of the cluster has these resources, busy or not."""
        return any(
            all(machine.get(name, 0) >= part for name, part in self.resources.items())
            for machine in machines()
        )

    def remote(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Return a function that submits `function` as a task with this share."""
        cpus, gpus = self.resources["CPU"], self.resources["GPU"]
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, **options)(function)
        return task.remote


def machines() -> list[Mapping[str, float]]:
    """The resources of each machine of the cluster, busy or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class _Tasks:
    """A context in which tasks run: when it ends, they end."""

    def __init__(self, workload: Workload, say: Callable[[str], None]) -> None:
        self._workload = workload
        self._say = say
        self._running: dict[Any, Experiment] = {}
        self._share = Share.of(workload.device, workload.jobs)
        # max_calls: a process for each task, which frees all its memory at its end.
        self._task = self._share.remote(run_task, max_calls=1)
        self._token = workload.folder / locks.LOCKS / f"seen-{uuid4().hex}"
        self._fitted = time.monotonic()
        self._is_waiting = False

    def __enter__(self) -> "_Tasks":
        with writing(self._token):
            write_whole(self._token, b"")
        self._given = ray.put(self._workload)  # sent once, with the data
        return self

    def start(self, experiment: Experiment, stamp: RecordStamp) -> None:
        threads = self._share.threads
        task = self._task(self._given, experiment, stamp, threads, sys.argv, self._token)
        self._running[task] = experiment

    def ended(self, seconds: float) -> Iterator[tuple[Experiment, str | None]]:
        """See `watch.Pool`. Raises UsageError also if no machine fits a task for too long."""
        if not self._running:
            time.sleep(seconds)
            return
        ended, _ = ray.wait([*self._running], num_returns=1, timeout=seconds)
        self._check_machines()
        for task in ended:
            experiment = self._running.pop(task)
            try:
                yield experiment, ray.get(task)
            except RayTaskError as error:
                if isinstance(error.cause, UsageError):
                    raise error.cause from error
                yield experiment, str(error)
            except RayError as error:
                yield (
                    experiment,
                    f"it died, and at most {RETRIES} retries did not help: {_line(error)}",
                )

    def _check_machines(self) -> None:
        now = time.monotonic()
        if self._share.fits():
            self._fitted, self._is_waiting = now, False
            return
        needs = ", ".join(f"{part:g} {name}" for name, part in self._share.resources.items())
        lacks = f"no machine of the cluster has what a run needs ({needs})"
        if not self._is_waiting:
            self._is_waiting = True
            self._say(f"{lacks}: waiting {SECONDS_WITHOUT_MACHINE / 60:.0f} minutes")
        elif now - self._fitted > SECONDS_WITHOUT_MACHINE:
            raise UsageError(
                f"{lacks}: start one, and give the same command again, which goes on from the last "
                "checkpoints"
            )

    def __exit__(self, *error: object) -> None:
        left = [*self._running]
        try:
            for task in left:
                ray.cancel(task)  # KeyboardInterrupt in those that run
            if left:
                ray.wait(left, num_returns=len(left), timeout=SECONDS_TO_STOP)
        finally:  # after that time, or at a second Ctrl-C
            for task in left:
                ray.cancel(task, force=True)
            self._token.unlink(missing_ok=True)


def run_task(
    workload: Workload,
    experiment: Experiment,
    stamp: RecordStamp,
    threads: int,
    arguments: list[str],
    token: Path,
) -> None:
    """Run and record the experiment, on a machine of the cluster.

    token: a file that exists if the machine sees the results folder. Raises UsageError if not.
    """
    if not token.exists():
        raise UsageError(
            f"--executor ray: the machine {socket.gethostname()} does not see {workload.folder}: "
            "choose an --out in a folder that all machines of the cluster share"
        )
    sys.argv[:] = arguments  # the command, for the record
    torch.set_num_threads(threads)
    with position.written(workload, experiment) as listener:
        record_experiment(workload, experiment, listener, stamp)


def _describe(device: torch.device, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return describe(device)


def _measure(
    workload: Workload, experiments: Sequence[Experiment], threads: int
) -> list[Measurement]:
    torch.set_num_threads(threads)
    prepare(workload.device, experiments[0].precision)
    return measure_step_costs(workload, experiments)


def _divisible(number: float) -> float:
    """Round down to what Ray can assign: whole units, or ten-thousandths of one."""
    return int(number) if number >= 1 else int(number * 10_000) / 10_000


def _check_address(address: str) -> None:
    """Raise UsageError if nothing answers at the address: Ray itself would try for ten minutes."""
    if address.startswith("ray://"):
        raise UsageError(
            f"RAY_ADDRESS={address}: give the command on a machine of the cluster, and HOST:PORT"
        )
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"RAY_ADDRESS={address}: no cluster answers there ({error}): start one (ray start "
            "--head), or unset RAY_ADDRESS to use this machine alone"
        ) from error


def _line(error: Exception) -> str:
    """An error's kind and the first line of its message."""
    return in_a_line(getattr(error, "cause", None) or error)
