"""The position of a run that another process follows: a small file beside its checkpoint."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.context import Workload
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.reporting.remaining import Position

NAME = "position.json"


class PositionWriter:
    """A listener that writes a run's position. Who follows the run reads all else in its checkpoint
    and its record."""

    def __init__(self, suite_folder: Path) -> None:
        self._folder = suite_folder

    def stepped(self, experiment: Experiment, position: Position) -> None:
        with contextlib.suppress(OSError):  # the next checkpoint says that nothing can be written
            (self._folder / experiment.name / NAME).write_text(json.dumps(asdict(position)))

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None: ...
    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None: ...
    def note(self, line: str) -> None: ...


@contextmanager
def written(workload: Workload, experiment: Experiment) -> Iterator[PositionWriter]:
    """Context with a listener for a run in this process. At its end the file is removed."""
    try:
        yield PositionWriter(workload.folder)
    finally:
        with contextlib.suppress(OSError):
            (workload.folder / experiment.name / NAME).unlink()


def read(run_folder: Path) -> Position | None:
    """The last position of a run; None if there is none, or it is just being written."""
    try:
        return Position(**json.loads((run_folder / NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
