"""Train what is not recorded yet of a suite, then draw its figures."""

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from bench import cli, data, environment, records
from bench.commands.draw import draw_runs
from bench.commands.places import describe_archived
from bench.context import Workload
from bench.errors import SOME_FAILED
from bench.execution import archive, checkpointing, executors, work_queue
from bench.execution.step_costs import configuration, plan
from bench.experiment import Experiment
from bench.records import Run, locks
from bench.records.files import check_writable, make_writable
from bench.reporting import terminal
from bench.reporting.names import shared
from bench.reporting.progress import Reporter, SuiteProgress, duration
from bench.reporting.tensorboard import TensorBoard, writer_class
from bench.reporting.terminal import count


def run(request: cli.TrainingRequest, console: Console) -> int:
    """Train the missing runs, on the executor that was asked for, and draw the figures."""
    if request.tensorboard:
        writer_class()  # raises UsageError where it is not installed
    say = partial(console.print, markup=False)
    folder = request.out / request.suite.name
    with executors.EXECUTORS[request.executor](say) as executor, locks.no_trace_of_errors(folder):
        workload = _workload(request, executor, console)
        if request.fresh:
            moved, place = archive.archive_runs(workload, request.experiments)
            console.print(describe_archived(moved, place))
        left = work_queue.left_to_run(workload, request.experiments, say)
        archive.archive_changed(workload, left, say)
        dataset = workload.dataset
        console.print(f"data: {dataset.source}, fingerprint {dataset.fingerprint}")
        if not dataset.is_cifar and not dataset.is_generated:
            console.print(f"classes: {', '.join(dataset.classes)}")
        runs = _train(request, executor, workload, left, console, say)
    drawing = terminal.busy(console, "drawing the figures …")
    with locks.wait_for(workload.folder, locks.FIGURES), drawing:
        code = draw_runs(request, console)
    return SOME_FAILED if _print_failures(request, [run.name for run in runs]) else code


def _workload(
    request: cli.TrainingRequest, executor: executors.Executor, console: Console
) -> Workload:
    """Everything that can be refused is checked before anything is written."""
    suite = request.suite
    device = executor.find_device(request.device)
    environment.check_precision(suite.precision, device)
    check_writable(request.out / suite.name)
    console.print(f"{suite.name} on {executor.device_name(device)}, {suite.precision}")
    dataset = data.load(request.data_dir, suite.num_classes, generate=request.generated)
    dataset.subset(suite.train_images, suite.test_images)  # raises UsageError for too few images
    make_writable(request.out / suite.name)
    return Workload(
        *(suite.name, request.out, dataset, device),
        *(request.jobs, request.eager, request.executor),
    )


def _train(
    request: cli.TrainingRequest,
    executor: executors.Executor,
    workload: Workload,
    left: Sequence[Experiment],
    console: Console,
    say: Callable[[str], None],
) -> list[Run]:
    """Measure step costs, print what the missing runs will take, and train them."""
    with terminal.busy(console, "timing a step of each configuration …"):
        costs = executors.step_costs(executor, workload, request.experiments, say)
    total = len(request.experiments)
    if not left:
        console.print(f"{'the run is' if total == 1 else f'all {total} runs are'} recorded already")
        return []
    wanted = {configuration(workload, e) for e in left}
    costs = [m for m in costs if m.configuration in wanted]  # without other precisions, say
    sizes = len(workload.dataset.train_labels), len(workload.dataset.test_labels)
    plans = {e: plan(e, costs, train_images=sizes[0], test_images=sizes[1]) for e in left}
    reached = {e: checkpointing.reached(workload, e) for e in left}
    seconds = sum(plan.total - plan.until(*reached[e]) for e, plan in plans.items())
    console.print(
        f"{count(len(left), 'run')}, about {duration(seconds)} on this device"
        + (f" one after another, {request.jobs} at once" if request.jobs > 1 else "")
        + (f" ({total - len(left)} are recorded already)" if len(left) < total else "")
    )
    console.print(f"in each: {shared(left)}", soft_wrap=False)
    with ExitStack() as reporting:
        progress = SuiteProgress(console, plans, request.jobs, reached)
        reporter: Reporter = reporting.enter_context(progress)
        if request.tensorboard:
            reporter = reporting.enter_context(TensorBoard(reporter, workload.folder))
        return executor.run_all(workload, left, reporter)


def _print_failures(request: cli.TrainingRequest, tried: Collection[str]) -> bool:
    """Print which experiments failed, now or in an earlier command; return whether any did."""
    folder = request.out / request.suite.name
    failed = False
    for experiment in request.experiments:
        found = records.read_run(folder / experiment.name)
        if found and found.status in ("failed", "oom"):
            failed = True
            again = "" if experiment.name in tried else "; --fresh tries it again"
            place = folder / experiment.name / records.RUN
            print(f"{experiment.name} {found.status}: {place} says why{again}", file=sys.stderr)
    return failed
