"""What is left to run, where several processes share a folder of results."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from bench import records, sources
from bench.context import Workload
from bench.errors import UsageError
from bench.experiment import Experiment
from bench.records import RESULTS, RUN, Run, locks
from bench.records.checksums import DamagedRecordError
from bench.training import checkpoint

Before = tuple[int, int] | None
"""Which record there was of an experiment: its file's time and number; None: none."""


def left_to_run(
    workload: Workload, experiments: Sequence[Experiment], say: Callable[[str], None]
) -> list[Experiment]:
    """The experiments that are not recorded yet, or were with other code of the user's own.

    A damaged record is set aside, and `say` is called with a line about it. Of those that are
    recorded, a checkpoint goes that a process left which was killed just before it had removed it.
    Raises UsageError when a record under one's name is of another experiment or of other data.
    """
    left = [e for e in experiments if _whole_status(workload, e, say) not in RESULTS]
    for experiment in {*experiments} - {*left}:
        checkpoint.remove(workload.folder / experiment.name / checkpoint.NAME)
    return left


def recorded_by_another(workload: Workload, experiment: Experiment, before: Before) -> Run | None:
    """The record that another process has made since `before` was seen, or None.

    A failed run is tried again by the next command, not by one that ran at the same time.
    """
    status = _recorded_status(workload, experiment)
    folder = workload.folder / experiment.name
    if status in RESULTS or (status and recorded_before(folder) != before):
        return records.read_whole_run(folder)
    return None


def recorded_before(folder: Path) -> Before:
    try:
        found = (folder / RUN).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_ino


class Hears(Protocol):
    def note(self, line: str) -> None: ...


class Left:
    """The experiments that are left. Those that another process is running come last, until it
    has recorded them, or died."""

    def __init__(
        self, workload: Workload, experiments: Sequence[Experiment], listener: Hears
    ) -> None:
        self.before: Mapping[Experiment, Before] = {
            e: recorded_before(workload.folder / e.name) for e in experiments
        }
        self._folder = workload.folder
        self._waiting = deque(experiments)
        self._listener = listener
        self._said: set[Experiment] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Experiment | None:
        """The next one that no other process is running; None when there is none now."""
        for _ in range(len(self._waiting)):
            experiment = self._waiting.popleft()
            if locks.is_free(self._folder, experiment.name):
                return experiment
            self.put_back(experiment)
        return None

    def put_back(self, experiment: Experiment) -> None:
        """It turned out that another process is running it."""
        self._waiting.append(experiment)
        if experiment not in self._said:
            self._said.add(experiment)
            self._listener.note(
                f"{experiment.name}: another process is running it: looked at again at the end"
            )


def _whole_status(
    workload: Workload, experiment: Experiment, say: Callable[[str], None]
) -> str | None:
    try:
        return _recorded_status(workload, experiment)
    except DamagedRecordError:
        with locks.claim(workload.folder, experiment.name) as is_ours:
            if not is_ours:
                return None  # it was just being written
            try:
                return _recorded_status(workload, experiment)
            except DamagedRecordError as error:
                say(error.set_aside())
                return None


def _recorded_status(workload: Workload, experiment: Experiment) -> str | None:
    folder = workload.folder / experiment.name
    content = records.read_run(folder)
    if content is None:
        return None
    if content["experiment"] != asdict(experiment):
        raise UsageError(f"{folder} records another experiment: use another --out")
    data, given = content["data"], workload.dataset
    if data["fingerprint"] != given.fingerprint:
        raise UsageError(
            f"{folder} was recorded on other data ({data['source']}, fingerprint "
            f"{data['fingerprint']}) than is given now ({given.source}, {given.fingerprint}): "
            "use another --out, or that data"
        )
    if sources.changed([content["environment"]], sources.of(experiment)):
        return None
    return str(content["status"])
