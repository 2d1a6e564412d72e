"""Print every suite and how far it is (--list), and its time on this device (--estimate)."""

from pathlib import Path

import torch
from rich.console import Console

from bench import cli, data, environment
from bench.commands import status
from bench.commands.places import describe_folder
from bench.context import Workload
from bench.errors import DONE
from bench.execution.step_costs import estimate_seconds, measure_step_costs
from bench.reporting import terminal
from bench.reporting.progress import duration
from bench.studies.study import Study
from bench.suites import SUITES, Suite

CIFAR_SIZE = (50_000, 10_000)


def run(request: cli.TrainingRequest, console: Console) -> int:
    """Print a table of all suites. Times are estimated from a step of each configuration, which
    takes minutes, and only if the user asks for them."""
    describe_folder(request.out)  # raises UsageError where it is none
    rows = [
        _study_row(suite, request.out) if isinstance(suite, Study) else _suite_row(suite, request)
        for suite in SUITES.values()
    ]
    if not request.estimate:
        console.print(terminal.table(("suite", "runs", "of these", "what"), rows))
        return DONE
    device = environment.find_device(request.device)
    environment.prepare(device)
    with terminal.busy(console, "timing a step of each network on this device …"):
        times = ["" if isinstance(s, Study) else _time(s, device) for s in SUITES.values()]
    timed = [(*row[:3], time, row[3]) for row, time in zip(rows, times, strict=True)]
    columns = ("suite", "runs", "of these", "time here", "what")
    console.print(terminal.table(columns, timed))
    return DONE


def _study_row(study: Study, out: Path) -> tuple[str, str, str, str]:
    try:
        cases = study.cases()
    except ValueError as error:  # a package that one of its methods needs is not installed
        return study.name, "", f"not here: {error}", study.description
    state = status.of_cases(out / study.name, study.row, study.key, cases)
    return study.name, str(len(cases)), state.detail or state.state, study.description


def _suite_row(suite: Suite, request: cli.TrainingRequest) -> tuple[str, str, str, str]:
    experiments = suite.experiments()
    recorded = status.summary(status.of_runs(request.out / suite.name, experiments))
    return suite.name, str(len(experiments)), recorded, suite.description


def _time(suite: Suite, device: torch.device) -> str:
    experiments = suite.experiments()
    pixels = data.load(None, suite.num_classes, generate=True)
    workload = Workload(suite.name, Path(), pixels, device)
    costs = measure_step_costs(workload, experiments, batch_size=16, repeats=1)
    seconds = estimate_seconds(
        experiments, costs, train_images=CIFAR_SIZE[0], test_images=CIFAR_SIZE[1]
    )
    return f"about {duration(seconds)}"
