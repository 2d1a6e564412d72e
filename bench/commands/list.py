"""Print every suite, how far it is, and its time on this device (--list)."""

from contextlib import nullcontext
from pathlib import Path

import torch
from rich.console import Console

from bench import cli, data, environment
from bench.commands import status
from bench.commands.exit_codes import DONE
from bench.commands.places import describe_folder
from bench.context import Workload
from bench.execution.step_costs import estimate_seconds, measure_step_costs
from bench.reporting import terminal
from bench.reporting.progress import duration
from bench.studies.study import Study
from bench.suites import SUITES, Suite

CIFAR_SIZE = (50_000, 10_000)


def run(request: cli.TrainingRequest, console: Console) -> int:
    """Print a table of all suites. Times are estimated from a step of each configuration."""
    describe_folder(request.out)  # raises UsageError where it is none
    device = environment.find_device(request.device)
    environment.prepare(device)
    table = terminal.table("suite", "runs", "of these", "time here", "what")
    waiting = "timing a step of each network on this device …"
    with console.status(waiting) if console.is_interactive else nullcontext():
        for suite in SUITES.values():
            folder = request.out / suite.name
            if isinstance(suite, Study):
                table.add_row(*_study_row(suite, folder))
            else:
                table.add_row(*_suite_row(suite, folder, device))
    console.print(table)
    return DONE


def _study_row(study: Study, folder: Path) -> tuple[str, ...]:
    try:
        cases = study.cases()
    except ValueError as error:  # a package that one of its methods needs is not installed
        return study.name, "", f"not here: {error}", "", study.description
    state = status.of_cases(folder, study.row, study.key, cases)
    return study.name, str(len(cases)), state.detail or state.state, "", study.description


def _suite_row(suite: Suite, folder: Path, device: torch.device) -> tuple[str, ...]:
    experiments = suite.experiments()
    recorded = status.summary(status.of_runs(folder, experiments))
    pixels = data.load(None, suite.num_classes, generate=True)
    workload = Workload(suite.name, Path(), pixels, device)
    costs = measure_step_costs(workload, experiments, batch_size=16, repeats=1)
    seconds = estimate_seconds(
        experiments, costs, train_images=CIFAR_SIZE[0], test_images=CIFAR_SIZE[1]
    )
    time_here = f"about {duration(seconds)}"
    return suite.name, str(len(experiments)), recorded, time_here, suite.description
