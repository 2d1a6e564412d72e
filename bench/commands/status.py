"""How far a suite is: what is recorded, what runs, what failed, and what is left."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import records
from bench.experiment import Experiment
from bench.records import MEASUREMENTS, RESULTS, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.reporting import progress
from bench.training import checkpoint
from bench.training.checkpoint import DamagedError

DONE, FAILED, RUNNING, STOPPED = "done", "failed", "running", "stopped"
DAMAGED, LEFT, MEASURED = "damaged", "left", "measured"


@dataclass(frozen=True)
class State:
    """How far an experiment is: one of the words above, epochs that are over, and more in words."""

    name: str
    state: str
    epochs: int
    detail: str = ""


def of_runs(suite_folder: Path, experiments: Iterable[Experiment]) -> list[State]:
    """How far each experiment is. Writes nothing. Raises UsageError when a record is of another
    version."""
    return [_of_run(suite_folder, experiment) for experiment in experiments]


def _of_run(suite_folder: Path, experiment: Experiment) -> State:
    name, folder = experiment.name, suite_folder / experiment.name
    is_running = locks.is_held(suite_folder, name)
    try:
        run = records.read_whole_run(folder)
    except DamagedRecordError as error:
        return State(name, RUNNING if is_running else DAMAGED, 0, str(error))
    if run is not None and run.status in RESULTS:
        return State(name, DONE, len(run.epochs), progress.describe(run))
    epochs, detail = _of_checkpoint(folder / checkpoint.NAME)
    if is_running:
        return State(name, RUNNING, epochs, detail)
    if run is not None:
        return State(name, FAILED, len(run.epochs), progress.describe(run))
    return State(name, STOPPED if epochs or detail else LEFT, epochs, detail)


def _of_checkpoint(file: Path) -> tuple[int, str]:
    """The epochs that are over, and what to say of the one that is not."""
    try:
        found = checkpoint.read_any(file)
    except (DamagedError, checkpoint.ForeignError) as error:
        return 0, f"its checkpoint cannot be used: {error}"
    if found is None:
        return 0, ""
    return len(found.rows), f"in epoch {found.epoch}, {progress.count(found.steps, 'step')}"


def of_cases(suite_folder: Path, row: type[Any], key: Sequence[str], cases: Iterable[Any]) -> State:
    """How many of the cases of a suite that trains nothing are measured; epochs is their number.

    key: by which a case and its rows are known to belong together; where there is none, a command
    measures its cases anew, and of which cases the rows are is not known.
    """
    wanted = {records.key_of(case, key) for case in cases}
    name, file = suite_folder.name, suite_folder / MEASUREMENTS
    is_running = locks.is_held(suite_folder, locks.MEASUREMENTS)
    try:
        rows = records.read_rows(file, row) if file.exists() else []
    except DamagedRecordError as error:
        return State(name, RUNNING if is_running else DAMAGED, 0, str(error))
    if not key and rows and not is_running:
        when = [str(found["recorded_at"]) for found in checksums.environments(file)]
        return State(name, MEASURED, len(rows), f"{progress.count(len(rows), 'row')}, {when[-1]}")
    done = len(wanted & {records.key_of(row, key) for row in rows})
    state = RUNNING if is_running else DONE if done == len(wanted) else STOPPED if done else LEFT
    detail = f"{done} of {progress.count(len(wanted), 'case')} measured" if key else ""
    return State(name, state, done, detail)


def others(suite_folder: Path, experiments: Iterable[Experiment]) -> int:
    """How many other runs are recorded there."""
    names = {experiment.name for experiment in experiments}
    return sum(file.parent.name not in names for file in suite_folder.glob(f"*/{records.RUN}"))


def summary(states: Sequence[State]) -> str:
    """So many of each, in words."""
    counts = Counter(state.state for state in states)
    order = (DONE, RUNNING, STOPPED, FAILED, DAMAGED, LEFT)
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
