"""Run the experiments of a suite, on this machine or on a cluster, and record each."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

from bench import environment, records, sources
from bench.context import Workload
from bench.environment import prepare
from bench.errors import UsageError, unwritable
from bench.execution import archive, processes
from bench.execution.run import record_experiment
from bench.execution.step_costs import configuration, measure_step_costs
from bench.execution.work_queue import Left
from bench.experiment import Experiment
from bench.records import Measurement, Run, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.records.files import remove_parts
from bench.reporting.progress import Reporter


class Executor(Protocol):
    """Where experiments run."""

    def find_device(self, name: str) -> torch.device:
        """As `environment.find_device`, of the machines where they run."""

    def device_name(self, device: torch.device) -> str:
        """For people."""

    def describe(self, device: torch.device, precision: str) -> Mapping[str, Any]:
        """As `environment.describe`, of a machine where they run."""

    def measure_step_costs(
        self, workload: Workload, experiments: Sequence[Experiment]
    ) -> list[Measurement]:
        """As `step_costs.measure_step_costs`, there."""

    def run_all(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> list[Run]:
        """Run and record each experiment; one that goes wrong does not stop the others. Returns
        the runs in that order.

        One that another process is running is waited for at the end: its record is among those
        that are returned, and it is run here if that process dies.
        Raises UsageError when a record cannot be written.
        """


def step_costs(
    executor: Executor,
    workload: Workload,
    experiments: Sequence[Experiment],
    say: Callable[[str], None],
) -> list[Measurement]:
    """The cost of a training step of every configuration, measured and recorded where it is not
    yet; with all that is recorded of others. `say` is called with a line for the person."""
    file = workload.folder / records.MEASUREMENTS
    with locks.wait_for(workload.folder, locks.MEASUREMENTS, lambda: say(locks.WAITING)):
        remove_parts(workload.folder)
        try:
            known = (
                archive.put_changed_rows_aside(file, Measurement, experiments, say)
                if file.exists()
                else []
            )
        except DamagedRecordError as error:
            say(error.set_aside())
            known = []
        have = {m.configuration for m in known}
        missing = [e for e in experiments if configuration(workload, e) not in have]
        if not missing:
            return known
        measurements = known + executor.measure_step_costs(workload, missing)
        there = executor.describe(workload.device, missing[0].precision)
        there = {**there, "sources": sources.of(*missing), "data": workload.dataset.described}
        where = [*checksums.environments(file), there]
        try:
            records.write_measurements(workload.results, workload.suite, measurements, where)
        except OSError as error:
            raise unwritable(str(workload.folder), error) from error
        return measurements


def run_all(workload: Workload, experiments: Sequence[Experiment], reporter: Reporter) -> list[Run]:
    """As `Executor.run_all`: one after another in this process, or workload.jobs at once in
    processes of their own."""
    if workload.jobs > 1:
        return processes.run_all(workload, experiments, reporter)
    left = Left(workload, experiments, reporter)
    runs = []
    while left:
        experiment = left.take()
        if experiment is None:
            time.sleep(locks.SECONDS_BETWEEN_LOOKS)
            continue
        reporter.run_started(experiment)
        run = record_experiment(workload, experiment, reporter, left.before[experiment])
        if run is None:
            reporter.run_postponed(experiment)
            left.put_back(experiment)
        else:
            reporter.run_finished(run)
            runs.append(run)
    return runs


class Local:
    """This machine."""

    def find_device(self, name: str) -> torch.device:
        return environment.find_device(name)

    def device_name(self, device: torch.device) -> str:
        return environment.device_name(device)

    def describe(self, device: torch.device, precision: str) -> Mapping[str, Any]:
        return environment.describe(device, precision)

    def measure_step_costs(
        self, workload: Workload, experiments: Sequence[Experiment]
    ) -> list[Measurement]:
        prepare(workload.device, experiments[0].precision)
        return measure_step_costs(workload, experiments)

    def run_all(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> list[Run]:
        return run_all(workload, experiments, reporter)


@contextmanager
def _local(say: Callable[[str], None]) -> Iterator[Executor]:
    yield Local()


@contextmanager
def _on_ray(say: Callable[[str], None]) -> Iterator[Executor]:
    try:
        from bench.execution import cluster
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError(
            "--executor ray needs the package ray: pip install -e '.[ray]', on each machine"
        ) from error
    with cluster.connected(say) as executor:
        yield executor


EXECUTORS: Mapping[str, Callable[[Callable[[str], None]], AbstractContextManager[Executor]]] = {
    "local": _local,
    "ray": _on_ray,
}
"""Where a suite's experiments run, by the name that --executor takes: each is a context that gives
an executor, and is given a function that tells the person a line."""
