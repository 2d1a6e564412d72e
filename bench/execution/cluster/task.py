"""What happens on a machine of the cluster."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray.exceptions import RayError

from bench.context import Workload
from bench.environment import describe, prepare
from bench.errors import UsageError
from bench.execution.step_costs import measure_step_costs
from bench.execution.work_queue import Before
from bench.execution.worker import Busy, Ending, Started, Told, ending
from bench.experiment import Experiment
from bench.records import Measurement, Run
from bench.records.files import write_whole
from bench.training import checkpoint


def run(
    workload: Workload,
    experiment: Experiment,
    before: Before,
    threads: int,
    arguments: list[str],
    token: Path,
    desk: Any,
) -> tuple[Ending, bool]:
    """Run the experiment and return how it ended, and whether its record is still to be
    written. The token is seen where the folder of results is."""

    def ask(method: Any, *given: Any) -> Any:
        try:
            # Not with ray.get: while that waits, Ray lends the task's CPUs to another one.
            return method.remote(*given).future().result()
        except RayError:  # nobody listens any more
            raise KeyboardInterrupt from None

    sys.argv[:] = arguments  # what the record says the command was
    torch.set_num_threads(threads)
    prepare(workload.device, experiment.precision)
    told = Told(lambda message: ask(desk.tell, experiment, message))
    told.tell(Started(describe(workload.device, experiment.precision)))
    if token.exists():
        ask(desk.end, experiment)  # where an earlier try was made on a machine that did not see it
        return ending(workload, experiment, told, before), False
    found = ask(desk.begin, experiment, before)
    if isinstance(found, Busy | Run | UsageError):
        return found, False

    def carry(file: Path) -> None:
        error = ask(desk.keep, experiment, file.name, file.read_bytes())
        if error is not None:
            raise error

    with TemporaryDirectory(prefix="anode-bench-") as results:
        away = replace(workload, results=Path(results))
        if found is not None:
            write_whole(away.folder / experiment.name / checkpoint.NAME, found)
        return ending(away, experiment, told, None, carry), True


def describe_machine(device: torch.device, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return describe(device)


def measure(
    workload: Workload, experiments: Sequence[Experiment], threads: int
) -> list[Measurement]:
    torch.set_num_threads(threads)
    prepare(workload.device, experiments[0].precision)
    return measure_step_costs(workload, experiments)
