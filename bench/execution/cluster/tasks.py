"""The tasks of a suite, as the driver sees them."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.context import Workload
from bench.errors import UsageError, in_a_line, unwritable
from bench.execution.cluster import machines, task
from bench.execution.cluster.desk import Desk
from bench.execution.cluster.machines import Share
from bench.execution.run import write
from bench.execution.work_queue import Before
from bench.execution.worker import SECONDS_TO_STOP, Ending, Message
from bench.experiment import Experiment
from bench.records import RESULTS, Run, locks
from bench.records.files import write_whole
from bench.reporting.progress import Reporter
from bench.training import checkpoint

SECONDS_WITHOUT_MACHINE = 5 * 60.0
"""So long a machine that died may have been the last one that has what a task needs."""


class Tasks:
    """A context in which tasks run: when it ends, so do they. running: the experiment of each."""

    def __init__(self, workload: Workload, reporter: Reporter) -> None:
        self.running: dict[Any, Experiment] = {}
        self._workload = workload
        self._reporter = reporter
        self._share = Share.of(workload.device, workload.jobs)
        # Each in a process of its own: one that ends gives back all that it had.
        self._task = self._share.remote(task.run, max_calls=1)
        self._token = workload.folder / locks.LOCKS / f"seen-{uuid4().hex}"
        self._seen = time.monotonic()
        self._said = False

    def __enter__(self) -> "Tasks":
        try:
            write_whole(self._token, b"")
        except OSError as error:
            raise unwritable(str(self._token), error) from error
        self._given = ray.put(self._workload)  # once, with the data
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        few = replace(self._workload, dataset=self._workload.dataset.subset(1, 1))
        self._desk = ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote(few)
        return self

    def start(self, experiment: Experiment, before: Before) -> None:
        share, token = self._share, self._token
        reference = self._task(
            self._given, experiment, before, share.threads, sys.argv, token, self._desk
        )
        self.running[reference] = experiment

    def messages(self, seconds: float) -> Iterator[tuple[Experiment, Message]]:
        """Waits, no longer than so many seconds, for a task to end; then all that was told.

        Raises UsageError where no machine has had what a task needs for a while.
        """
        ended: list[Any] = []
        if self.running:
            ended, _ = ray.wait([*self.running], timeout=seconds)
            self._check_machines()
        else:
            time.sleep(seconds)
        yield from ray.get(self._desk.messages.remote())
        for reference in ended:
            experiment = self.running.pop(reference)
            yield experiment, self._ending(experiment, reference)

    def _ending(self, experiment: Experiment, reference: Any) -> Ending:
        """How the task ended. The record that comes back from where the folder of results is not
        seen is written here."""
        ending: Ending
        try:
            ending, is_away = ray.get(reference)
        except RayError as error:
            ending, is_away = (
                f"it died, and at most {machines.RETRIES} retries did not help: {line_of(error)}",
                False,
            )
        if is_away and isinstance(ending, Run):
            write(self._workload, ending)
            if ending.status in RESULTS:
                folder = self._workload.folder / experiment.name
                (folder / checkpoint.NAME).unlink(missing_ok=True)
        ray.get(self._desk.end.remote(experiment))
        return ending

    def _check_machines(self) -> None:
        now = time.monotonic()
        if self._share.is_there():
            self._seen = now
            self._said = False
            return
        needs = ", ".join(f"{part:g} {name}" for name, part in self._share.resources.items())
        lacks = f"no machine of the cluster has what a run needs ({needs})"
        if not self._said:
            self._said = True
            self._reporter.note(f"{lacks}: waiting {SECONDS_WITHOUT_MACHINE / 60:.0f} minutes")
        elif now - self._seen > SECONDS_WITHOUT_MACHINE:
            raise UsageError(
                f"{lacks}: start one, and give the same command again, which goes on from the last "
                "checkpoints"
            )

    def __exit__(self, *error: object) -> None:
        left = [*self.running]
        try:
            for reference in left:
                ray.cancel(reference)  # Ctrl-C for those that run
            if left:
                ray.wait(left, num_returns=len(left), timeout=SECONDS_TO_STOP)
        finally:  # they had their time, or Ctrl-C came a second time
            for reference in left:
                ray.cancel(reference, force=True)
            ray.kill(self._desk)
            self._token.unlink(missing_ok=True)


def line_of(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    return in_a_line(getattr(error, "cause", None) or error)
