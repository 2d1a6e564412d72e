"""Run the experiments of a suite, on this machine or on a cluster, and record each."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

from bench import environment, records, sources
from bench.context import Workload
from bench.errors import UsageError, writing
from bench.execution import archive, processes
from bench.execution.run import record_experiment
from bench.execution.step_costs import configuration, measure_step_costs
from bench.execution.work_queue import WorkQueue
from bench.experiment import Experiment
from bench.records import Measurement, Run, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.records.files import remove_parts
from bench.reporting.progress import Reporter


class Executor(Protocol):
    """The place where experiments run."""

    def find_device(self, name: str) -> torch.device:
        """As `environment.find_device`, for the machines of this executor."""

    def device_name(self, device: torch.device) -> str:
        """The device's model, for the user."""

    def describe(self, device: torch.device, precision: str) -> Mapping[str, Any]:
        """As `environment.describe`, for a machine of this executor."""

    def measure_step_costs(
        self, workload: Workload, experiments: Sequence[Experiment]
    ) -> list[Measurement]:
        """As `step_costs.measure_step_costs`, on a machine of this executor."""

    def run_all(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> list[Run]:
        """Run and record each experiment; one that fails does not stop the others.

        Returns the runs in the order of the experiments. Waits at the end for experiments that
        another process is running; if that process dies, they are run here. Raises UsageError if a
        record cannot be written.
        """


def step_costs(
    executor: Executor,
    workload: Workload,
    experiments: Sequence[Experiment],
    say: Callable[[str], None],
) -> list[Measurement]:
    """Measure and record the cost of a training step of every configuration that has none yet, and,
    in turns with it, of the others of its network: times of different minutes have no fair ratio.

    Returns all recorded measurements of the suite. say: takes a line for the user.
    """
    file = workload.folder / records.MEASUREMENTS
    with locks.wait_for(workload.folder, locks.MEASUREMENTS, lambda: say(locks.WAITING)):
        remove_parts(workload.folder)
        known: list[Measurement] = []
        try:
            if file.exists():
                known = archive.archive_changed_rows(file, Measurement, experiments, say)
        except DamagedRecordError as error:
            say(error.rename_files())
        have = {m.configuration for m in known}
        missing = {e.network for e in experiments if configuration(workload, e) not in have}
        if not missing:
            return known
        compared = [e for e in experiments if e.network in missing]
        replaced = {configuration(workload, e) for e in compared}
        measurements = [m for m in known if m.configuration not in replaced]
        measurements += executor.measure_step_costs(workload, compared)
        there = executor.describe(workload.device, compared[0].precision)
        there = {**there, **sources.described(*compared), "data": workload.dataset.described}
        with writing(file):
            where = [*checksums.environments(file), there]
            records.write_rows(file, Measurement, measurements, where)
        return measurements


def run_all(workload: Workload, experiments: Sequence[Experiment], reporter: Reporter) -> list[Run]:
    """Run and record each experiment here, workload.jobs at once: see `Executor.run_all`."""
    if workload.jobs > 1:
        return processes.run_all(workload, experiments, reporter)
    queue = WorkQueue(workload, experiments, reporter.note)
    runs: dict[Experiment, Run] = {}
    while queue:
        experiment = queue.take()
        if experiment is None:
            time.sleep(locks.SECONDS_BETWEEN_LOOKS)
            continue
        reporter.run_started(experiment)
        run = record_experiment(workload, experiment, reporter, queue.stamps[experiment])
        if run is None:
            reporter.run_postponed(experiment)
            queue.put_back(experiment)
        else:
            reporter.run_finished(run)
            runs[experiment] = run
    return [runs[experiment] for experiment in experiments]


class Local:
    """This machine."""

    find_device = staticmethod(environment.find_device)
    device_name = staticmethod(environment.device_name)
    describe = staticmethod(environment.describe)
    run_all = staticmethod(run_all)

    def measure_step_costs(
        self, workload: Workload, experiments: Sequence[Experiment]
    ) -> list[Measurement]:
        environment.prepare(workload.device, experiments[0].precision)
        return measure_step_costs(workload, experiments)


@contextmanager
def _on_ray(say: Callable[[str], None]) -> Iterator[Executor]:
    try:
        from bench.execution import ray_cluster
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError(
            "--executor ray needs the package ray: pip install -e '.[ray]', on each machine"
        ) from error
    with ray_cluster.connected(say) as executor:
        yield executor


EXECUTORS: Mapping[str, Callable[[Callable[[str], None]], AbstractContextManager[Executor]]] = {
    "local": lambda say: nullcontext(Local()),
    "ray": _on_ray,
}
"""Name of --executor → a function of `say`, for lines for the user, that returns a context with the
executor."""
