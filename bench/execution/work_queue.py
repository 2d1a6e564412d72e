"""The experiments that are left to run, when several processes share a results folder."""

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

    Renames damaged records and calls `say` with a line about each. Removes checkpoints of
    recorded experiments, whose processes were killed before they could. Raises UsageError if a
    record is of another experiment or of other data.
    """
    left = [e for e in experiments if _status(workload, e, say) not in RESULTS]
    for experiment in {*experiments} - {*left}:
        checkpoint.remove(workload.folder / experiment.name / checkpoint.NAME)
    return left


def recorded_since(workload: Workload, experiment: Experiment, stamp: RecordStamp) -> Run | None:
    """Return the record that another process has written since the stamp was taken, or None.

    A failed run counts: the next command repeats it, not one that ran at the same time.
    """
    run = _recorded(workload, experiment)
    is_new = record_stamp(workload.folder / experiment.name) != stamp
    return run if run and (run.status in RESULTS or is_new) else None


def record_stamp(folder: Path) -> RecordStamp:
    try:
        found = (folder / RUN).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


class WorkQueue:
    """The experiments that wait to be run; those that another process is running come last.

    stamps: of their records when the queue was made. say: takes a line for the user.
    """

    def __init__(
        self, workload: Workload, experiments: Sequence[Experiment], say: Callable[[str], None]
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
            if not locks.is_held(self._folder, experiment.name):
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


def _status(workload: Workload, experiment: Experiment, say: Callable[[str], None]) -> str | None:
    try:
        run = _recorded(workload, experiment)
    except DamagedRecordError:  # or the process that has the lock is just writing it
        with locks.claim(workload.folder, experiment.name) as is_ours:
            try:
                run = _recorded(workload, experiment) if is_ours else None
            except DamagedRecordError as error:
                say(error.rename_files())
                run = None
    return run.status if run else None


def _recorded(workload: Workload, experiment: Experiment) -> Run | None:
    """The experiment's record; None if there is none of the present code."""
    folder, given = workload.folder / experiment.name, workload.dataset
    run = records.read_run(folder)
    if run is None:
        return None
    if run.experiment != asdict(experiment):
        raise UsageError(f"{folder} records another experiment: use another --out")
    if run.data["fingerprint"] != given.fingerprint:
        raise UsageError(
            f"{folder} was recorded on other data ({run.data['source']}, fingerprint "
            f"{run.data['fingerprint']}) than is given now ({given.source}, {given.fingerprint}): "
            "use another --out, or that data"
        )
    return None if sources.changed([run.environment], sources.of(experiment)) else run
