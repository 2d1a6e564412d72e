"""Move old results out of the way: at --fresh, and when the user's own code has changed."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import records, sources
from bench.context import Workload
from bench.errors import UsageError, unwritable
from bench.execution.step_costs import configuration
from bench.experiment import Experiment
from bench.records import ASIDE, MEASUREMENTS, PICTURES, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.records.files import write_whole


def put_aside(workload: Workload, experiments: Sequence[Experiment]) -> tuple[int, Path]:
    """Move the experiments' records, checkpoints and step costs out of the suite's folder.

    Other experiments stay: days of training may be in them. Returns the number of experiments that
    had a folder, and the new place. Raises UsageError if another process is running one of them.
    """
    place = _place(workload.folder)
    asked = [e for e in experiments if (workload.folder / e.name).exists()]
    with ExitStack() as held:
        # Also those without a folder: another process may just be starting one.
        for name in (locks.MEASUREMENTS, *(e.name for e in experiments)):
            if not held.enter_context(locks.claim(workload.folder, name)):
                raise UsageError(
                    f"--fresh: another process is working on {name} in {workload.folder}: stop it "
                    "first"
                )
        with _moving(place):
            for experiment in asked:
                _move(workload.folder / experiment.name, place)
            _move_measurements(workload, experiments, place)
    return len(asked), place


def put_changed_run_aside(
    workload: Workload, experiment: Experiment, say: Callable[[str], None]
) -> None:
    """Move the run's folder away where it is the record of other code than what the experiment
    names now, and `say` so in a line. For whoever has the run's lock."""
    folder = workload.folder / experiment.name
    found = records.read_run(folder)
    changed = found and sources.changed([found["environment"]], sources.of(experiment))
    if changed:
        place = _place(workload.folder)
        with _moving(place):
            _move(folder, place)
        say(_made_anew(experiment.name, changed, place))


def put_changed_rows_aside(
    file: Path, kind: type[Any], cases: Sequence[Any], say: Callable[[str], None]
) -> list[Any]:
    """The rows of measurements.csv, but for those of other code than what the cases name now: they
    are moved away, and `say` is told so in a line. For whoever has the lock."""
    rows, where = records.read_rows(file, kind), checksums.environments(file)
    changed = sources.changed(where, sources.of(*cases))
    old = sources.rows_of(rows, changed)
    if not old:
        return rows
    kept, place = [row for row in rows if row not in old], _place(file.parent)
    with _moving(place):
        records.write_rows(place / MEASUREMENTS, kind, old, where)
        records.write_rows(file, kind, kept, where)
    say(_made_anew(f"{len(old)} of {len(rows)} measurements", changed, place))
    return kept


def _made_anew(what: str, changed: Sequence[str], place: Path) -> str:
    are = "has" if len(changed) == 1 else "have"
    return f"{what}: {', '.join(changed)} {are} changed since: made anew, and the old is in {place}"


@contextmanager
def _moving(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(str(place), error) from error


def put_measurements_aside(suite_folder: Path) -> tuple[int, Path]:
    """Move all measurements of a suite that trains nothing; returns as `put_aside` does."""
    place = _place(suite_folder)
    files = [suite_folder / name for name in (MEASUREMENTS, PICTURES)]
    there = [file for file in files if file.exists()]
    with locks.claim(suite_folder, locks.MEASUREMENTS) as is_ours:
        if not is_ours:
            raise UsageError(
                f"--fresh: another process is measuring in {suite_folder}: stop it first"
            )
        with _moving(place):
            for file in files:
                _move_sealed(file, place)
    return len(there), place


def _place(suite_folder: Path) -> Path:
    """A new folder beside the suite's, with a name that `records.load` skips."""
    name = f"{suite_folder.name}{ASIDE}{time.strftime('%Y%m%d-%H%M%S')}"
    places = (
        suite_folder.with_name(f"{name}{more}") for more in ("", *(f"-{i}" for i in range(2, 99)))
    )
    return next(place for place in places if not place.exists())


def _move(what: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    os.rename(what, place / what.name)


def _move_sealed(file: Path, place: Path) -> None:
    """Move a file and the record with its checksum. The record is copied first and removed last, so
    that the file has one wherever it is if something fails."""
    record = checksums.beside(file)
    if record.is_file():
        write_whole(place / record.name, record.read_bytes())
    if file.exists():
        _move(file, place)
    if record.is_file():
        record.unlink()
    elif record.exists():
        _move(record, place)


def _move_measurements(workload: Workload, experiments: Sequence[Experiment], place: Path) -> None:
    try:
        known = records.read_measurements(workload.results, workload.suite)
    except DamagedRecordError as error:
        for file in error.files:
            if file.exists():
                _move(file, place)
        return
    asked = {configuration(workload, experiment) for experiment in experiments}
    old = [row for row in known if row.configuration in asked]
    if old:
        where = checksums.environments(workload.folder / MEASUREMENTS)
        records.write_rows(place / MEASUREMENTS, records.Measurement, old, where)
        rest = [row for row in known if row.configuration not in asked]
        records.write_measurements(workload.results, workload.suite, rest, where)
