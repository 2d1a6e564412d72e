"""What there is to run, and how far it is, printed as tables."""

import os
import stat
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import cli, data, environment
from bench.commands import status
from bench.context import Workload
from bench.errors import UsageError, readable
from bench.execution.step_costs import estimate_seconds, measure_step_costs
from bench.reporting.progress import count, duration
from bench.suites import SUITES, Suite

CIFAR_SIZE = (50_000, 10_000)


def show_runs(request: cli.Request, console: Console) -> None:
    """Print how far each run of the suite is."""
    there, folder = _place(request.out), request.out / request.suite.name
    states = status.of_runs(folder, request.experiments)
    table = Table("run", "state", "epochs", "")
    for experiment, state in zip(request.experiments, states, strict=True):
        epochs = f"{state.epochs}/{experiment.num_epochs}"
        table.add_row(*map(Text, (state.name, state.state, epochs, state.detail)))
    console.print(table)
    others = status.others(folder, request.experiments)
    console.print(
        f"{request.suite.name} in {there}: {status.summary(states)}"
        + (f"; {count(others, 'run')} with other options besides" if others else ""),
        markup=False,
    )


def show_cases(request: cli.MeasuringRequest, console: Console) -> None:
    """Print how many cases of a suite that trains nothing are measured."""
    suite, there = request.suite, _place(request.out)
    state = status.of_cases(request.out / suite.name, suite.row, suite.key, request.cases)
    console.print(
        f"{suite.name} in {there}: {state.state}" + (f", {state.detail}" if state.detail else ""),
        markup=False,
    )


def list_suites(request: cli.Request, console: Console) -> None:
    """Print every suite with its runs, how many of them are recorded, and its time on this
    device."""
    _place(request.out)
    device = environment.find_device(request.device)
    environment.prepare(device)
    table = Table("suite", "runs", "of these", "time here", "what")
    with console.status("timing a step of each network on this device …"):
        for suite in SUITES.values():
            folder = request.out / suite.name
            if not isinstance(suite, Suite):
                try:
                    cases = suite.cases()
                except ValueError as error:  # a package that one of its methods needs
                    table.add_row(suite.name, "", f"not here: {error}", "", suite.description)
                    continue
                state = status.of_cases(folder, suite.row, suite.key, cases)
                recorded = state.detail or state.state
                table.add_row(suite.name, str(len(cases)), recorded, "", suite.description)
                continue
            experiments = suite.experiments()
            recorded = status.summary(status.of_runs(folder, experiments))
            pixels = data.load(None, suite.num_classes, generate=True)
            workload = Workload(suite.name, Path(), pixels, device)
            costs = measure_step_costs(workload, experiments, batch_size=16, repeats=1)
            seconds = estimate_seconds(
                experiments, costs, train_images=CIFAR_SIZE[0], test_images=CIFAR_SIZE[1]
            )
            table.add_row(
                *(suite.name, str(len(experiments)), recorded),
                *(f"about {duration(seconds)}", suite.description),
            )
    console.print(table)


def _place(out: Path) -> str:
    """A folder of results, in words. Raises UsageError when it is none, or cannot be looked at."""
    try:
        is_folder = stat.S_ISDIR(os.stat(out).st_mode)
    except FileNotFoundError:
        return f"{readable(str(out))} (not there yet)"
    except OSError as error:
        raise UsageError(
            f"cannot look into {out} ({error.strerror}): name another --out"
        ) from error
    if not is_folder:
        raise UsageError(f"{out} is no folder: name another --out")
    return readable(str(out))
