"""Run the experiments of a suite on this machine, and record each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from bench import processes, records
from bench.environment import prepare
from bench.errors import UsageError, unwritable
from bench.experiment import Experiment
from bench.progress import Reporter
from bench.records import Measurement, Run
from bench.run import record_experiment
from bench.step_costs import configuration, measure_step_costs
from bench.workload import Workload

RESULTS = ("ok", "diverged", "oom")
"""The statuses that are results. A run that failed is tried again."""


def left_to_run(workload: Workload, experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments that are not recorded yet.

    Raises UsageError when a record under one's name is of another experiment or of other data.
    """
    return [e for e in experiments if _recorded_status(workload, e) not in RESULTS]


def step_costs(workload: Workload, experiments: Sequence[Experiment]) -> list[Measurement]:
    """The cost of a training step of every configuration, measured and recorded where it is not
    yet; with all that is recorded of others."""
    prepare(experiments[0].precision if experiments else "float32")
    known = records.read_measurements(workload.results, workload.suite)
    have = {m.configuration for m in known}
    missing = [e for e in experiments if configuration(workload, e) not in have]
    if not missing:
        return known
    measurements = known + measure_step_costs(workload, missing)
    try:
        records.write_measurements(workload.results, workload.suite, measurements)
    except OSError as error:
        raise unwritable(str(workload.folder), error) from error
    return measurements


def run_all(workload: Workload, experiments: Sequence[Experiment], reporter: Reporter) -> list[Run]:
    """Run and record each experiment; one that goes wrong does not stop the others.

    One after another in this process, or workload.jobs at once in processes of their own.
    Raises UsageError when a record cannot be written.
    """
    if workload.jobs > 1:
        return processes.run_all(workload, experiments, reporter)
    runs = []
    for experiment in experiments:
        reporter.run_started(experiment)
        run = record_experiment(workload, experiment, reporter.epoch_finished)
        reporter.run_finished(run)
        runs.append(run)
    return runs


Executor = Callable[[Workload, Sequence[Experiment], Reporter], list[Run]]

EXECUTORS: Mapping[str, Executor] = {"local": run_all}
"""Ways to run a suite's experiments, by the name that --executor takes."""


def _recorded_status(workload: Workload, experiment: Experiment) -> str | None:
    folder = workload.folder / experiment.name
    content = records.read_run(folder)
    if content is None:
        return None
    if content["experiment"] != asdict(experiment):
        raise UsageError(f"{folder} records another experiment: use another --out")
    data, given = content["data"], workload.dataset
    if data["fingerprint"] != given.fingerprint:
        raise UsageError(
            f"{folder} was recorded on other data ({data['source']}, fingerprint "
            f"{data['fingerprint']}) than is given now ({given.source}, {given.fingerprint}): "
            "use another --out, or that data"
        )
    return str(content["status"])
