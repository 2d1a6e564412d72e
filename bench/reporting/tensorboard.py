"""Write the rows of a suite's runs for TensorBoard."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError, writing
from bench.experiment import Experiment
from bench.records import EpochRow, Run
from bench.reporting.progress import Reporter
from bench.reporting.remaining import Position

FOLDER = "tensorboard"
"""In the suite's folder: `tensorboard --logdir results/<suite>/tensorboard`."""


class TensorBoard:
    """A reporter that writes rows for TensorBoard and forwards all events to another reporter.

    Each experiment has a folder, which is rewritten when the run starts or resumes: the rows are
    in the record anyway. Raises UsageError if the package is missing or a file cannot be written.
    """

    def __init__(self, reporter: Reporter, suite_folder: Path) -> None:
        self._reporter = reporter
        self._folder = suite_folder / FOLDER
        self._writer_class = writer_class()
        self._open: dict[str, Any] = {}
        self._written: dict[str, int] = {}

    def run_started(self, experiment: Experiment) -> None:
        self._reporter.run_started(experiment)

    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None:
        self._reporter.run_resumed(experiment, rows)
        self._write_anew(experiment.name, rows)

    def stepped(self, experiment: Experiment, position: Position) -> None:
        self._reporter.stepped(experiment, position)

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None:
        self._reporter.epoch_finished(experiment, row)
        if row.epoch == 1:
            self._write_anew(experiment.name, [row])
        else:
            self._write(experiment.name, [row])

    def run_finished(self, run: Run) -> None:
        if self._written.get(run.name) != len(run.epochs):  # another process ran it
            self._write_anew(run.name, run.epochs)
        self._close(run.name)
        self._reporter.run_finished(run)

    def run_postponed(self, experiment: Experiment) -> None:
        self._reporter.run_postponed(experiment)

    def note(self, line: str) -> None:
        self._reporter.note(line)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *error: object) -> None:
        for name in [*self._open]:
            self._close(name)

    def _write_anew(self, name: str, rows: Sequence[EpochRow]) -> None:
        self._close(name)
        shutil.rmtree(self._folder / name, ignore_errors=True)
        self._write(name, rows)

    def _write(self, name: str, rows: Sequence[EpochRow]) -> None:
        with writing(self._folder / name):
            if name not in self._open:
                self._open[name] = self._writer_class(str(self._folder / name))
                self._written[name] = 0
            for row in rows:
                for tag, value in scalars(row):
                    self._open[name].add_scalar(tag, value, row.epoch)
                self._written[name] += 1
            self._open[name].flush()

    def _close(self, name: str) -> None:
        if name in self._open:
            self._open.pop(name).close()


def scalars(row: EpochRow) -> Iterator[tuple[str, float]]:
    """The values of an epoch, with the names of their charts."""
    yield "loss/train", row.train_loss
    yield "loss/test", row.test_loss
    yield "accuracy/train", row.train_accuracy
    yield "accuracy/test", row.test_accuracy
    yield "learning_rate", row.learning_rate
    yield "seconds_per_step", row.seconds_per_step
    if row.gradient_error is not None and row.gradient_cosine is not None:
        yield "gradient_error/all", row.gradient_error
        yield "gradient_cosine/all", row.gradient_cosine
    for kind in ("gradient_error", "gradient_cosine"):
        for block, value in enumerate(getattr(row, f"{kind}_blocks"), start=1):
            yield f"{kind}/block{block}", value


def writer_class() -> Any:
    """Return TensorBoard's writer class. Raises UsageError if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "--tensorboard: the package tensorboard is missing: install it with "
            "pip install -e '.[tensorboard]'"
        ) from error
    return SummaryWriter
