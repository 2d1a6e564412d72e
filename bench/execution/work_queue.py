"""Which experiments are left to run, when several processes share a results folder."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import records, sources
from bench.context import Workload
from bench.errors import UsageError
from bench.experiment import Experiment
from bench.records import RESULTS, RUN, Run, locks
from bench.records.checksums import DamagedRecordError
from bench.training import checkpoint

RecordStamp = tuple[int, int] | None
"""`(mtime_ns, inode)` of an experiment's run.json, or None if there is none."""


def left_to_run(
    workload: Workload, experiments: Sequence[Experiment], say: Callable[[str], None]
) -> list[Experiment]:
    """Return the experiments without a result of the present code.

    A damaged record is set aside, and `say` is called with a line about it. The checkpoint of a
    recorded experiment is removed: its process was killed before it could do so. Raises UsageError
    if the record of an experiment's name is of another experiment or of other data.
    """
    left = [e for e in experiments if _whole_status(workload, e, say) not in RESULTS]
    for experiment in {*experiments} - {*left}:
        checkpoint.remove(workload.folder / experiment.name / checkpoint.NAME)
    return left


def recorded_since(workload: Workload, experiment: Experiment, stamp: RecordStamp) -> Run | None:
    """Return the record that a process has written since the stamp was taken, or None.

    A failed run counts: the next command repeats it, not one that ran at the same time.
    """
    status = _recorded_status(workload, experiment)
    folder = workload.folder / experiment.name
    if status in RESULTS or (status and record_stamp(folder) != stamp):
        return records.read_whole_run(folder)
    return None


def record_stamp(folder: Path) -> RecordStamp:
    try:
        found = (folder / RUN).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_ino


class WorkQueue:
    """The experiments that wait to be run.

    Those that another process is running come last, until it has recorded them or died. stamps:
    of their records when the queue was made. say: takes a line for the user.
    """

    def __init__(
        self,
        workload: Workload,
        experiments: Sequence[Experiment],
        say: Callable[[str], None],
    ) -> None:
        self.stamps: Mapping[Experiment, RecordStamp] = {
            e: record_stamp(workload.folder / e.name) for e in experiments
        }
        self._folder = workload.folder
        self._waiting = deque(experiments)
        self._say = say
        self._said: set[Experiment] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Experiment | None:
        """Return the next one that no other process is running, or None."""
        for _ in range(len(self._waiting)):
            experiment = self._waiting.popleft()
            if locks.is_free(self._folder, experiment.name):
                return experiment
            self.put_back(experiment)
        return None

    def put_back(self, experiment: Experiment) -> None:
        """Append one that another process is running after all."""
        self._waiting.append(experiment)
        if experiment not in self._said:
            self._said.add(experiment)
            self._say(
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
