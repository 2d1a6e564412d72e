"""Run a suite of experiments and draw its figures: python run_bench.py --suite NAME."""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

import plots
from bench import aside, cli, data, environment, executors, gate, locks, precision, records, sharing
from bench.errors import UsageError
from bench.progress import SuiteProgress, count, duration
from bench.records import Run
from bench.step_costs import estimate_seconds, measure_step_costs
from bench.studies.reversibility import ReversibilityLaboratory
from bench.suites import SUITES, Suite
from bench.workload import Workload

CIFAR_SIZE = (50_000, 10_000)
DONE, BAD_USAGE, SOME_FAILED, INTERRUPTED = 0, 2, 3, 130
WAITING = "another process is measuring in this folder: waiting until it has"


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks and returns the exit code."""
    # A log is not as narrow as a terminal, and a table must not lose words there.
    width = None if sys.stdout.isatty() else 160
    console = Console(soft_wrap=True, highlight=False, width=width)
    try:
        request = cli.parse(arguments)
        if isinstance(request, cli.MeasuringRequest):
            return measure(request, console)
        if request.action == "list":
            return list_suites(request, console)
        if request.action == "plots-only":
            return draw(request, console)
        return run(request, console)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is recorded, and what was begun is in checkpoints: the "
            "same command goes on there",
            file=sys.stderr,
        )
        return INTERRUPTED


def run(request: cli.Request, console: Console) -> int:
    """Run what is not recorded yet, then draw the figures."""
    with executors.EXECUTORS[request.executor](console.print) as executor:
        return run_with(executor, request, console)


def run_with(executor: executors.Executor, request: cli.Request, console: Console) -> int:
    device = executor.find_device(request.device)
    precision.check(request.suite.precision, device)
    _check_writable(request.out / request.suite.name)
    dataset = data.load(request.data_dir, request.suite.num_classes, generate=request.generated)
    dataset.subset(request.suite.train_images, request.suite.test_images)  # are there so many?
    _make_writable(request.out / request.suite.name)
    workload = Workload(
        *(request.suite.name, request.out, dataset, device),
        *(request.jobs, request.eager, request.executor),
    )
    if request.fresh:
        _say_what_is_aside(console, *aside.put_aside(workload, request.experiments))
    left = sharing.left_to_run(workload, request.experiments)
    console.print(
        f"{request.suite.name} on {executor.device_name(device)}, {request.suite.precision}"
    )
    console.print(f"data: {dataset.source}, fingerprint {dataset.fingerprint}")
    runs: list[Run] = []
    costs = executors.step_costs(
        executor, workload, request.experiments, lambda: console.print(WAITING)
    )
    if left:
        sizes = len(dataset.train_labels), len(dataset.test_labels)
        seconds = {
            e.name: estimate_seconds([e], costs, train_images=sizes[0], test_images=sizes[1])
            for e in left
        }
        recorded = len(request.experiments) - len(left)
        console.print(
            f"{count(len(left), 'run')}, about {duration(sum(seconds.values()))} on this device"
            + (f" one after another, {request.jobs} at once" if request.jobs > 1 else "")
            + (f" ({recorded} are recorded already)" if recorded else "")
        )
        with SuiteProgress(console, seconds) as progress:
            runs = executor.run_all(workload, left, progress)
    else:
        console.print(f"all {len(request.experiments)} runs are recorded already")
    with locks.wait_for(workload.folder, locks.FIGURES):
        code = draw(request, console)
    failed = [run for run in runs if run.status in ("failed", "oom")]
    for run in failed:
        place = run.folder(request.out) / records.RUN
        print(f"{run.name} {run.status}: {place} says why", file=sys.stderr)
    return SOME_FAILED if failed else code


def draw(request: cli.Request, console: Console) -> int:
    """Draw the suite's figures from the request's runs, as far as they are recorded."""
    folder = request.out / request.suite.name
    names = [experiment.name for experiment in request.experiments]
    written = plots.draw(request.suite.figures, folder, names)
    for file in written:
        console.print(f"wrote {file}")
    return DONE


def measure(request: cli.MeasuringRequest, console: Console) -> int:
    """A suite that trains nothing, and its gate."""
    device = environment.find_device(request.device)
    environment.prepare()
    folder = request.out / request.suite.name
    code = DONE
    if request.action != "plots-only":
        dataset = data.load(request.data_dir, 10, generate=request.data_dir is None)
        laboratory = request.suite.laboratory(dataset, device)
        pictures = laboratory.pictures if isinstance(laboratory, ReversibilityLaboratory) else None
        measuring = gate.Measuring(
            request.cases,
            laboratory.measure,
            request.suite.row,
            request.suite.key,
            device,
            console,
            pictures,
        )
        if request.action == "check":
            return gate.check(measuring, request.reference)
        if request.action == "update-reference":
            _make_writable(request.reference.parent)
            return gate.update_reference(measuring, request.reference)
        _make_writable(folder)
        console.print(f"data: {dataset.source}, fingerprint {dataset.fingerprint}")
        if request.fresh:
            _say_what_is_aside(console, *aside.put_measurements_aside(folder))
        with locks.wait_for(folder, locks.MEASUREMENTS, lambda: console.print(WAITING)):
            code = gate.run(measuring, folder)
        if code and not (folder / records.MEASUREMENTS).exists():
            return code
    key = request.suite.key
    cases = {records.key_of(case, key) for case in request.cases}
    alone = locks.wait_for(folder, locks.FIGURES) if request.action == "run" else nullcontext()
    with alone:
        written = plots.draw_measured(request.suite.figures, folder, request.suite.row, key, cases)
    for file in written:
        console.print(f"wrote {file}")
        if file.name in plots.PRINTED:
            console.print(Markdown(file.read_text(encoding="utf-8")))
    return code


def list_suites(request: cli.Request, console: Console) -> int:
    """Print every suite with its runs and its time on this device."""
    device = environment.find_device(request.device)
    environment.prepare()
    table = Table("suite", "runs", "time here", "what")
    with console.status("timing a step of each network on this device …"):
        for suite in SUITES.values():
            if not isinstance(suite, Suite):
                table.add_row(suite.name, str(len(suite.cases())), "", suite.description)
                continue
            experiments = suite.experiments()
            pixels = data.load(None, suite.num_classes, generate=True)
            workload = Workload(suite.name, Path(), pixels, device)
            costs = measure_step_costs(workload, experiments, batch_size=16, repeats=1)
            seconds = estimate_seconds(
                experiments, costs, train_images=CIFAR_SIZE[0], test_images=CIFAR_SIZE[1]
            )
            table.add_row(
                suite.name, str(len(experiments)), f"about {duration(seconds)}", suite.description
            )
    console.print(table)
    return DONE


def _say_what_is_aside(console: Console, count_of_old: int, place: Path) -> None:
    if place.exists():
        console.print(f"--fresh: the old results ({count_of_old}) are now in {place}")
    else:
        console.print("--fresh: there are no old results")


def _check_writable(folder: Path) -> None:
    """Raises UsageError when the folder cannot be made; makes nothing."""
    try:
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
        reason = "it is not writable" if there.is_dir() else "it is no folder"
    except OSError as error:
        there, reason = folder, str(error.strerror)
    raise UsageError(f"cannot write to {folder} ({there}: {reason}): choose another --out")


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}): choose another --out"
        ) from error


if __name__ == "__main__":
    with contextlib.suppress(AttributeError, ValueError):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
