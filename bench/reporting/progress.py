"""Show the progress of a suite: live lines in a terminal, plain lines in a log."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from bench.errors import readable
from bench.experiment import Experiment
from bench.records import EpochRow, Run
from bench.reporting.names import short_names
from bench.reporting.remaining import Clock, Plan, Position
from bench.reporting.terminal import count

SECONDS_BETWEEN_LINES = 60.0
"""The least interval between two lines of one run in a log."""

LONGEST = 300
"""Number of characters of an exception that are shown."""

WIDEST_NAME = 32
"""Characters of a run's name in one line of the live view."""


_NUMBERS = {"epoch": 5, "step": 7, "loss": 5, "accuracy": 8, "left": 6}
"""Columns of the live view, and the characters that they have at least."""


class Reporter(Protocol):
    """Receives the events of a suite. Several experiments may be running at once."""

    def run_started(self, experiment: Experiment) -> None: ...

    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None:
        """The run continues from a checkpoint, after these epochs. If its last process died, they
        may be fewer than were reported."""

    def stepped(self, experiment: Experiment, position: Position) -> None:
        """The run has reached this position. Not every step is reported."""

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None: ...
    def run_finished(self, run: Run) -> None: ...

    def run_postponed(self, experiment: Experiment) -> None:
        """Another process is running it: it has not started here."""

    def note(self, line: str) -> None:
        """Show a line to the user."""


class SuiteProgress:
    """A reporter that shows a line for each running experiment and one for the suite, as a context.

    plans: of each experiment. at_once: how many of them are expected to run at a time. reached: the
    epoch and step from which a run goes on, of those that have a checkpoint.
    """

    def __init__(
        self,
        console: Console,
        plans: Mapping[Experiment, Plan],
        at_once: int = 1,
        reached: Mapping[Experiment, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        self._console = console
        typical = max((plan.step for plan in plans.values()), default=0.0) or 1.0
        self._plans = {  # a step that could not be timed may be as long as the longest one
            e.name: plan if plan.step else replace(plan, step=typical) for e, plan in plans.items()
        }
        done = {e.name: self._plans[e.name].until(*place) for e, place in reached.items()}
        self._at_start = {n: plan.total - done.get(n, 0.0) for n, plan in self._plans.items()}
        self._left = {**self._at_start}
        names = short_names(plans) if console.is_interactive else {e: e.name for e in plans}
        self._names = {experiment.name: name for experiment, name in names.items()}
        self._finished = 0
        self._running: dict[str, _Running] = {}
        self._suite = Clock(1 / at_once)
        self._live = Live(console=console, get_renderable=self._table, transient=True)

    def __enter__(self) -> "SuiteProgress":
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def run_started(self, experiment: Experiment) -> None:
        self._running[experiment.name] = _Running(self._plans[experiment.name])

    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None:
        # Epochs of an earlier process say nothing about the speed of this one. Epochs that a dead
        # process had reported but not saved are done again.
        run = self._running[experiment.name]
        run.epoch, run.position, run.row = len(rows) + 1, None, rows[-1] if rows else None
        run.is_timed = False
        self._move(experiment.name, run.plan.until(run.epoch), run.is_timed)

    def run_postponed(self, experiment: Experiment) -> None:
        self._running.pop(experiment.name)
        self._left[experiment.name] = self._at_start[experiment.name]

    def note(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stepped(self, experiment: Experiment, position: Position) -> None:
        run = self._running[experiment.name]
        run.epoch, run.position = position.epoch, position
        self._move(experiment.name, run.plan.until(position.epoch, position.step), run.is_timed)
        run.is_timed = True

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None:
        run = self._running[experiment.name]
        run.epoch, run.position, run.row = row.epoch + 1, None, row
        run.is_timed = True
        self._move(experiment.name, run.plan.until(run.epoch), run.is_timed)
        if not self._console.is_interactive and run.is_time_for_a_line():
            self.note(
                f"      {experiment.name}: {row.epoch}/{experiment.num_epochs} epochs, "
                f"loss {row.train_loss:.3f}, test accuracy {row.test_accuracy:.1%}, "
                f"{duration(run.clock.seconds(self._left[experiment.name]))} left"
            )

    def run_finished(self, run: Run) -> None:
        self._running.pop(run.name)
        self._left[run.name] = 0.0
        self._finished += 1
        left = f"; the suite: {duration(self._suite_seconds_left())} left"
        self.note(
            f"[{self._finished}/{len(self._plans)}] {self._names[run.name]}: {describe(run)}"
            + (left if self._finished < len(self._plans) else "")
        )

    def _move(self, name: str, done: float, is_timed: bool) -> None:
        """Note that a run has done this part of its plan, in planned seconds. is_timed: the time
        since its last event went into that."""
        run = self._running[name]
        left = run.plan.total - done
        if not is_timed:
            run.clock = Clock()
            self._suite.begin()
        elif left < self._left[name]:
            run.clock.count(self._left[name] - left)
            self._suite.count(self._left[name] - left)
        self._left[name] = left

    def _suite_seconds_left(self) -> float:
        return self._suite.seconds(sum(self._left.values()))

    def _table(self) -> Table:
        table = Table(
            Column("", overflow="fold", max_width=WIDEST_NAME),
            Column("", ratio=1, min_width=6),
            *(
                Column(title, justify="right", no_wrap=True, min_width=width)
                for title, width in _NUMBERS.items()
            ),
            box=None,
            expand=True,
            padding=(0, 1, 0, 0),
            header_style="dim",
        )
        for name, run in [*self._running.items()]:
            left = self._left[name]
            seconds = brief(run.clock.seconds(left))
            table.add_row(self._names[name], _bar(run.plan.total, left), *run.cells(), seconds)
        total = sum(plan.total for plan in self._plans.values())
        counted = f"{self._finished} of {count(len(self._plans), 'run')} done"
        bar = _bar(total, sum(self._left.values()))
        table.add_row(counted, bar, *[""] * (len(_NUMBERS) - 1), brief(self._suite_seconds_left()))
        return table


@dataclass
class _Running:
    """epoch: the current one. position: in it, None before its first step. row: of the last.
    is_timed: an event came since it was started or resumed, which takes longer than a step."""

    plan: Plan
    epoch: int = 1
    position: Position | None = None
    row: EpochRow | None = None
    is_timed: bool = False
    clock: Clock = field(default_factory=Clock)
    _said: float = field(default_factory=lambda: time.monotonic())

    def cells(self) -> tuple[str, str, str, str]:
        """Epoch, step, loss and accuracy in the live view."""
        position, row = self.position, self.row  # which another thread may replace
        step = position.step if position else 0
        loss = position.loss if position else row.train_loss if row else None
        return (
            f"{min(self.epoch, self.plan.n_epochs)}/{self.plan.n_epochs}",
            f"{step}/{self.plan.n_steps}" if step < self.plan.n_steps else "testing",
            "–" if loss is None else f"{loss:.3f}",
            f"{row.test_accuracy:.1%}" if row else "–",
        )

    def is_time_for_a_line(self) -> bool:
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES:
            return False
        self._said = now
        return True


def _bar(total: float, left: float) -> ProgressBar:
    return ProgressBar(total=total, completed=total - left)


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


def brief(seconds: float) -> str:
    """Seconds in at most eight characters."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
