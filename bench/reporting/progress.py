"""Show the progress of a suite: live lines in a terminal, plain lines in a log."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bench.errors import readable
from bench.experiment import Experiment
from bench.records import EpochRow, Run

SECONDS_BETWEEN_LINES = 60.0
"""The least interval between two lines of one run in a log."""

LONGEST = 300
"""Number of characters of an exception that are shown."""

ENOUGH = 0.05
"""The part of a suite after which its remaining time is estimated: runs differ in their speed."""


class Reporter(Protocol):
    """Receives the events of a suite. Several experiments may be running at once."""

    def run_started(self, experiment: Experiment) -> None: ...

    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None:
        """The run continues from a checkpoint, after these epochs. If its last process died, they
        may be fewer than were reported."""

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None: ...
    def run_finished(self, run: Run) -> None: ...

    def run_postponed(self, experiment: Experiment) -> None:
        """Another process is running it: it has not started here."""

    def note(self, line: str) -> None:
        """Show a line to the user."""


class SuiteProgress:
    """A reporter that shows a line for each running experiment and one for the suite, as a context.

    estimates: the expected time of each experiment, by name, in any unit; only ratios count.
    """

    def __init__(self, console: Console, estimates: Mapping[str, float]) -> None:
        self._console = console
        typical = max(estimates.values(), default=0.0) or 1.0
        self._weights = {name: estimate or typical for name, estimate in estimates.items()}
        self._n_runs = len(estimates)
        self._started_runs = 0
        self._finished = 0
        self._running: dict[str, _Running] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}"),
            TextColumn("{task.fields[observed]}"),
            console=console,
            transient=True,
            disable=not console.is_interactive,
        )
        self._suite = _Clock(sum(self._weights.values()))
        self._whole = self._bar.add_task(
            "suite", total=self._suite.total, counted=self._counted(), observed=""
        )

    def __enter__(self) -> "SuiteProgress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def run_started(self, experiment: Experiment) -> None:
        self._started_runs += 1
        total = experiment.num_epochs
        task = self._bar.add_task(
            f"[{self._started_runs}/{self._n_runs}] {experiment.name}",
            total=total,
            counted=f"0/{total} epochs",
            observed="",
        )
        self._running[experiment.name] = _Running(
            task, _Clock(total), self._weights[experiment.name] / total
        )

    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None:
        # Epochs of an earlier process say nothing about the speed of this one. Epochs that a dead
        # process had reported but not saved are done again.
        run, done = self._running[experiment.name], len(rows)
        run.clock.total -= done - run.epochs
        self._suite.total -= run.weight * (done - run.epochs)
        run.epochs = done
        self._bar.update(self._whole, total=self._suite.total)
        self._bar.update(run.task, completed=done, counted=f"{done}/{experiment.num_epochs} epochs")

    def run_postponed(self, experiment: Experiment) -> None:
        self._started_runs -= 1
        self._bar.remove_task(self._running.pop(experiment.name).task)

    def note(self, line: str) -> None:
        self._say(line)

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None:
        run = self._running[experiment.name]
        run.epochs = row.epoch
        run.clock.advance(1)
        self._advance_suite(run.weight)
        counted = f"{row.epoch}/{experiment.num_epochs} epochs"
        observed = f"loss {row.train_loss:.3f}, test accuracy {row.test_accuracy:.1%}"
        left = run.clock.left()
        self._bar.update(
            run.task, completed=row.epoch, counted=counted, observed=f"{left}, {observed}"
        )
        if not self._console.is_interactive and run.is_time_for_a_line():
            self._say(f"      {experiment.name}: {counted}, {observed}, {left}")

    def run_finished(self, run: Run) -> None:
        shown = self._running.pop(run.name)
        self._bar.remove_task(shown.task)
        self._finished += 1
        # A run that ended early leaves no epochs to wait for.
        self._advance_suite(shown.weight * (shown.clock.total - shown.clock.done))
        left = self._suite.left(ENOUGH)
        of_suite = f"; the suite: {left}" if left and self._finished < self._n_runs else ""
        self._say(f"[{self._finished}/{self._n_runs}] {run.name}: {describe(run)}{of_suite}")

    def _advance_suite(self, weight: float) -> None:
        self._suite.advance(weight)
        self._bar.update(
            self._whole, advance=weight, counted=self._counted(), observed=self._suite.left(ENOUGH)
        )

    def _counted(self) -> str:
        return f"{self._finished}/{self._n_runs} runs"

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Clock:
    """Estimates the remaining time from the speed since the start."""

    total: float
    done: float = 0.0
    _started: float = field(default_factory=lambda: time.monotonic())

    def advance(self, by: float) -> None:
        self.done += by

    def left(self, enough: float = 0.0) -> str:
        """The remaining time in words; empty before this part of the total is done."""
        if self.done <= enough * self.total:
            return ""
        seconds = (time.monotonic() - self._started) * max(0.0, self.total / self.done - 1)
        return f"{duration(seconds)} left"


@dataclass
class _Running:
    """weight: an epoch's part of the suite. epochs: number of finished epochs."""

    task: TaskID
    clock: _Clock
    weight: float
    epochs: int = 0
    _said: float = field(default_factory=lambda: time.monotonic())

    def is_time_for_a_line(self) -> bool:
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES:
            return False
        self._said = now
        return True


def describe(run: Run) -> str:
    """One line about the end of a run."""
    if run.status == "ok":
        last = run.epochs[-1]
        error = "" if last.gradient_error is None else f", gradient error {last.gradient_error:.2g}"
        return (
            f"test accuracy {last.test_accuracy:.1%}, loss {last.train_loss:.3f}{error}, "
            f"{run.summary['seconds']:.0f} s"
        )
    return f"{run.status.upper()}: {_told(run.reason or '')}"


def _told(reason: str) -> str:
    """The reason in one line: of a traceback, the line that names the exception."""
    last = reason.rpartition("Traceback (most recent call last):\n")[2].strip("\n")
    line = next((line for line in last.split("\n") if line[:1].strip()), "")
    told = readable(line)
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"


def duration(seconds: float) -> str:
    """Seconds in words, rounded to a suitable unit."""
    if seconds < 60:
        return count(round(seconds), "second")
    if seconds < 3600:
        return count(round(seconds / 60), "minute")
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{timedelta(seconds=seconds).days} days"


def count(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
