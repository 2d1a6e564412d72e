"""Run a suite of experiments and draw its figures: python run_bench.py --suite NAME."""

import os
import signal
import sys


def _stop(number: int, frame: object) -> None:
    os.write(sys.stderr.fileno(), b"interrupted: nothing was begun\n")
    os._exit(130)


if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)  # as long as the rest is imported, which takes seconds

import contextlib
import io
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

import plots
from bench import cli, data, environment, records
from bench.commands import list as listing
from bench.commands import measure as gate
from bench.commands import reproduction
from bench.context import Workload
from bench.errors import UsageError
from bench.execution import archive, executors, work_queue
from bench.execution.step_costs import configuration, estimate_seconds
from bench.records import Run, locks
from bench.records.files import check_writable, make_writable, remove_parts
from bench.reporting.progress import Reporter, SuiteProgress, count, duration
from bench.reporting.tensorboard import TensorBoard, writer_class
from bench.studies.reversibility import ReversibilityLaboratory

DONE, NOT_THE_SAME, BAD_USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks and returns the exit code."""
    _open_streams()
    # A log is not as narrow as a terminal, and a table must not lose words there.
    width = None if sys.stdout.isatty() else 160
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)
    try:
        request = cli.parse(arguments)
        if isinstance(request, cli.MeasuringRequest):
            return measure(request, console)
        if request.action == "list":
            listing.list_suites(request, console)
            return DONE
        if request.action == "status":
            listing.show_runs(request, console)
            return DONE
        if request.action == "plots-only":
            return draw(request, console)
        if request.action == "reproduce":
            return reproduce_run(request, console)
        return run(request, console)
    except UsageError as error:
        return _failed(error)
    except OSError as error:  # what is not a record: the log, say, on a disk that is full
        place = f" ({error.filename})" if error.filename else ""
        return _failed(
            UsageError(
                f"{error.strerror or error}{place}: mend that and run the same command again; what "
                "is recorded already is kept"
            )
        )
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is recorded, and what was begun is in checkpoints: the "
            "same command goes on there",
            file=sys.stderr,
        )
        return INTERRUPTED


def run(request: cli.Request, console: Console) -> int:
    """Run what is not recorded yet, then draw the figures."""
    if request.tensorboard:
        writer_class()  # is it there?
    say = partial(console.print, markup=False)
    with executors.EXECUTORS[request.executor](say) as executor:
        return _run(request, executor, console, say)


def _run(
    request: cli.Request,
    executor: executors.Executor,
    console: Console,
    say: Callable[[str], None],
) -> int:
    device = executor.find_device(request.device)
    environment.check_precision(request.suite.precision, device)
    check_writable(request.out / request.suite.name)
    dataset = data.load(request.data_dir, request.suite.num_classes, generate=request.generated)
    dataset.subset(request.suite.train_images, request.suite.test_images)  # are there so many?
    make_writable(request.out / request.suite.name)
    workload = Workload(
        *(request.suite.name, request.out, dataset, device),
        *(request.jobs, request.eager, request.executor),
    )
    if request.fresh:
        _say_what_is_aside(console, *archive.put_aside(workload, request.experiments))
    left = work_queue.left_to_run(workload, request.experiments, say)
    console.print(
        f"{request.suite.name} on {executor.device_name(device)}, {request.suite.precision}"
    )
    console.print(f"data: {dataset.source}, fingerprint {dataset.fingerprint}")
    runs: list[Run] = []
    costs = executors.step_costs(executor, workload, request.experiments, say)
    if left:
        sizes = len(dataset.train_labels), len(dataset.test_labels)
        wanted = {configuration(workload, e) for e in left}
        costs = [m for m in costs if m.configuration in wanted]  # no other precision's, say
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
        with ExitStack() as reporting:
            reporter: Reporter = reporting.enter_context(SuiteProgress(console, seconds))
            if request.tensorboard:
                reporter = reporting.enter_context(TensorBoard(reporter, workload.folder))
            runs = executor.run_all(workload, left, reporter)
    else:
        n_runs = len(request.experiments)
        are = "the run is" if n_runs == 1 else f"all {n_runs} runs are"
        console.print(f"{are} recorded already")
    with locks.wait_for(workload.folder, locks.FIGURES):
        code = draw(request, console)
    return SOME_FAILED if _say_what_failed(request, [run.name for run in runs]) else code


def _say_what_failed(request: cli.Request, tried: Collection[str]) -> bool:
    """Whether some experiment has no result, now or since an earlier command; and which."""
    folder = request.out / request.suite.name
    failed = False
    for experiment in request.experiments:
        found = records.read_run(folder / experiment.name)
        if found and found["status"] in ("failed", "oom"):
            failed = True
            again = "" if experiment.name in tried else "; --fresh tries it again"
            place = folder / experiment.name / records.RUN
            print(f"{experiment.name} {found['status']}: {place} says why{again}", file=sys.stderr)
    return failed


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
    if request.action == "status":
        listing.show_cases(request, console)
        return DONE
    device = environment.find_device(request.device)
    environment.prepare(device)
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
            dataset.described,
            console,
            pictures,
        )
        if request.action == "check":
            return gate.check(measuring, request.reference)
        if request.action == "update-reference":
            make_writable(request.reference.parent)
            return gate.update_reference(measuring, request.reference)
        make_writable(folder)
        console.print(f"data: {dataset.source}, fingerprint {dataset.fingerprint}")
        if request.fresh:
            _say_what_is_aside(console, *archive.put_measurements_aside(folder))
        with locks.wait_for(folder, locks.MEASUREMENTS, lambda: console.print(locks.WAITING)):
            remove_parts(folder)
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


def reproduce_run(request: cli.Request, console: Console) -> int:
    """Run a recorded experiment again, and say whether it came out the same."""
    assert request.reproduce is not None
    recorded = reproduction.find(request.out / request.suite.name, request.reproduce)
    experiment = reproduction.experiment_of(recorded)
    was = recorded.environment
    device = environment.find_device(was["device"] if request.device == "auto" else request.device)
    environment.check_precision(experiment.precision, device)
    generate = request.generated or (recorded.data["is_generated"] and request.data_dir is None)
    dataset = data.load(request.data_dir, experiment.num_classes, generate=generate)
    if dataset.fingerprint != recorded.data["fingerprint"]:
        raise UsageError(
            f"{recorded.name} was recorded on other data ({recorded.data['source']}, fingerprint "
            f"{recorded.data['fingerprint']}) than is given now ({dataset.source}, "
            f"{dataset.fingerprint}): give that data"
        )
    results = reproduction.place(request.out, recorded.suite, recorded.name)
    make_writable(results)
    eager = request.eager or was.get("execution") == "eager: --eager"
    workload = Workload(recorded.suite, results, dataset, device, eager=eager)
    with environment.threads(was["threads"]):
        console.print(f"{recorded.name} again, on {environment.device_name(device)}")
        with SuiteProgress(console, {experiment.name: 1.0}) as progress:
            (now,) = executors.run_all(workload, [experiment], progress)
    for change in reproduction.changes(was, now.environment):
        console.print(f"not as it was: {change}", markup=False)
    found = reproduction.differences(recorded, now)
    if not found:
        console.print(
            f"the same: {now.status}, {count(len(now.epochs), 'epoch')}, every observed number to "
            "the last bit"
        )
        return DONE
    table = Table("what", "first in epoch", "recorded", "now", title="not the same")
    for difference in found:
        epoch = str(difference.epoch or "")
        table.add_row(*map(str, (difference.column, epoch, difference.recorded, difference.now)))
    console.print(table)
    console.print(f"recorded again in {now.folder(results)}", markup=False)
    return NOT_THE_SAME


def _open_streams() -> None:
    """Somebody may have closed them; and what is told may have characters, of a file's name say,
    that they cannot show."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next file that is opened gets this number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _failed(error: UsageError) -> int:
    with contextlib.suppress(OSError):
        print(f"error: {error}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # what it could not take would be tried again, and told, when Python ends
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BAD_USAGE


def _say_what_is_aside(console: Console, count_of_old: int, place: Path) -> None:
    if place.exists():
        what = f"the old results ({count_of_old})" if count_of_old else "the old step costs"
        console.print(f"--fresh: {what} are now in {place}")
    else:
        console.print("--fresh: there are no old results")


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(AttributeError, ValueError):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
