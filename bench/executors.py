"""Run the experiments of a suite on this machine, and record each."""

import time
from collections.abc import Callable, Mapping, Sequence

from bench import locks, processes, records, sealed
from bench.environment import describe, prepare
from bench.errors import unwritable
from bench.experiment import Experiment
from bench.files import remove_parts
from bench.progress import Reporter
from bench.records import Measurement, Run
from bench.run import record_experiment
from bench.sealed import DamagedRecordError
from bench.sharing import Left
from bench.step_costs import configuration, measure_step_costs
from bench.workload import Workload


def step_costs(
    workload: Workload, experiments: Sequence[Experiment], say: Callable[[str], None]
) -> list[Measurement]:
    """The cost of a training step of every configuration, measured and recorded where it is not
    yet; with all that is recorded of others. `say` is called with a line for the person."""
    prepare(experiments[0].precision if experiments else "float32")
    with locks.wait_for(workload.folder, locks.MEASUREMENTS, lambda: say(locks.WAITING)):
        remove_parts(workload.folder)
        try:
            known = records.read_measurements(workload.results, workload.suite)
        except DamagedRecordError as error:
            say(error.set_aside())
            known = []
        return _step_costs(workload, experiments, known)


def _step_costs(
    workload: Workload, experiments: Sequence[Experiment], known: list[Measurement]
) -> list[Measurement]:
    have = {m.configuration for m in known}
    missing = [e for e in experiments if configuration(workload, e) not in have]
    if not missing:
        return known
    measurements = known + measure_step_costs(workload, missing)
    try:
        where = sealed.environments(workload.folder / records.MEASUREMENTS)
        here = {
            **describe(workload.device, experiments[0].precision),
            "data": workload.dataset.described,
        }
        records.write_measurements(workload.results, workload.suite, measurements, [*where, here])
    except OSError as error:
        raise unwritable(str(workload.folder), error) from error
    return measurements


def run_all(workload: Workload, experiments: Sequence[Experiment], reporter: Reporter) -> list[Run]:
    """Run and record each experiment; one that goes wrong does not stop the others.

    One that another process is running is waited for at the end: its record is among those that
    are returned, and it is run here if that process dies.
    One after another in this process, or workload.jobs at once in processes of their own.
    Raises UsageError when a record cannot be written.
    """
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


Executor = Callable[[Workload, Sequence[Experiment], Reporter], list[Run]]

EXECUTORS: Mapping[str, Executor] = {"local": run_all}
"""Ways to run a suite's experiments, by the name that --executor takes."""
