"""Tells a person how far a suite is: a live line in a terminal, plain lines elsewhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.experiment import Experiment
from bench.records import EpochRow, Run


class SuiteProgress:
    """A context in which a suite reports; see `executors.Reporter`."""

    def __init__(self, console: Console, n_runs: int) -> None:
        self._console = console
        self._n_runs = n_runs
        self._finished = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[observed]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "SuiteProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def run_started(self, experiment: Experiment) -> None:
        self._task = self._bar.add_task(
            f"[{self._finished + 1}/{self._n_runs}] {experiment.name}",
            total=experiment.num_epochs,
            observed="",
        )

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None:
        self._bar.update(
            self._task,
            advance=1,
            observed=f"loss {row.train_loss:.3f}, test accuracy {row.test_accuracy:.1%}",
        )

    def run_finished(self, run: Run) -> None:
        self._bar.remove_task(self._task)
        self._finished += 1
        self._console.print(
            f"[{self._finished}/{self._n_runs}] {run.name}: {describe(run)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def describe(run: Run) -> str:
    """How a run ended, in a line."""
    if run.status == "ok":
        last = run.epochs[-1]
        error = "" if last.gradient_error is None else f", gradient error {last.gradient_error:.2g}"
        return (
            f"test accuracy {last.test_accuracy:.1%}, loss {last.train_loss:.3f}{error}, "
            f"{run.summary['seconds']:.0f} s"
        )
    reason = (run.reason or "").strip().splitlines()
    return f"{run.status.upper()}: {reason[-1] if reason else ''}"
