"""The executor of a Ray cluster, and the way to it."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from bench.context import Workload
from bench.errors import UsageError
from bench.execution.cluster import task
from bench.execution.cluster.machines import Share, machines
from bench.execution.cluster.tasks import Tasks, line_of
from bench.execution.elsewhere import Elsewhere
from bench.execution.worker import Ending, Started
from bench.experiment import Experiment
from bench.records import Measurement, Run, locks
from bench.reporting.progress import Reporter, count

SECONDS_TO_CONNECT = 5.0


@contextmanager
def connected(say: Callable[[str], None]) -> Iterator["Cluster"]:
    """The cluster at RAY_ADDRESS, or one that runs on this machine, or else one that is started
    here and ends with the context.

    Raises UsageError when there is none, and when it fails inside.
    """
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"--executor ray: there is no cluster ({line_of(error)})") from error
    try:
        yield Cluster(say)
    except RayError as error:
        raise UsageError(
            f"the Ray cluster failed ({line_of(error)}): the same command goes on from the last "
            "checkpoints"
        ) from error
    finally:
        ray.shutdown()


class Cluster:
    """The executor. See `executors.Executor`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._environment: Mapping[str, Any] = {}  # of one of its machines

    def find_device(self, name: str) -> torch.device:
        """Ray gives a task its GPU, so that it is every task's first."""
        if name not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {name}: with --executor ray choose auto, cpu or cuda")
        if name == "auto":
            name = "cuda" if any(machine.get("GPU", 0) >= 1 for machine in machines()) else "cpu"
        device = torch.device("cuda", 0) if name == "cuda" else torch.device("cpu")
        share = Share.of(device, 1)
        self._environment = self._wait_for(
            share.remote(task.describe_machine)(device, share.threads)
        )
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
        measure = share.remote(task.measure, max_calls=1)
        try:
            return self._wait_for(measure(workload, experiments, share.threads))
        except WorkerCrashedError:  # as the run will that did it, which is recorded then
            self._say("the process that timed steps died: how long the runs take is not known")
            return []

    def run_all(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> list[Run]:
        workload = replace(workload, results=workload.results.absolute())
        elsewhere = Elsewhere(workload, experiments, reporter)
        with Tasks(workload, reporter) as tasks:
            while elsewhere.left or tasks.running:
                while experiment := elsewhere.left.take():
                    tasks.start(experiment, elsewhere.left.before[experiment])
                for experiment, message in tasks.messages(locks.SECONDS_BETWEEN_LOOKS):
                    if isinstance(message, Ending) and experiment not in elsewhere.running:
                        # No process of it ever came so far as to say that it runs.
                        there = self.describe(workload.device, experiment.precision)
                        elsewhere.heard(experiment, Started(there))
                    elsewhere.heard(experiment, message)
        return elsewhere.runs

    def _wait_for(self, asked: Any) -> Any:
        """A task's result; what is wrong in it is said in one line."""
        if not ray.wait([asked], timeout=SECONDS_TO_CONNECT * 2)[0]:
            self._say("waiting for a machine of the cluster that is free")
        try:
            return ray.get(asked)
        except RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from error
            raise UsageError(
                f"--executor ray: a machine of the cluster cannot run this: {line_of(error)}"
            ) from error


def _check_address(address: str) -> None:
    """Raises UsageError where nobody answers: Ray itself would try for ten minutes."""
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
