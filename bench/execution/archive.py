"""Move old results out of the way: at --fresh, and when the user's own code has changed."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bench import records, sources
from bench.context import Workload
from bench.errors import UsageError, writing
from bench.execution.step_costs import configuration
from bench.experiment import Experiment
from bench.records import ARCHIVE, MEASUREMENTS, PICTURES, Measurement, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.records.files import write_whole
from bench.reporting.terminal import count


def archive_runs(workload: Workload, experiments: Sequence[Experiment]) -> tuple[int, Path]:
    """Move the experiments' records, checkpoints and step costs out of the suite's folder.

    Other experiments stay: days of training may be in them. Returns the number of experiments that
    had a folder, and the new place. Raises UsageError if another process is running one of them.
    """
    place = _place(workload.folder)
    asked = [e for e in experiments if (workload.folder / e.name).exists()]
    with ExitStack() as held, writing(place):
        _hold(held, workload.folder, locks.MEASUREMENTS)
        for experiment in experiments:  # also those without a folder: one may just be starting
            _hold(held, workload.folder, experiment.name)
        for experiment in asked:
            _move(workload.folder / experiment.name, place)
        _move_step_costs(workload, experiments, place)
    return len(asked), place


def archive_measurements(suite_folder: Path) -> tuple[int, Path]:
    """Move all measurements of a suite that trains nothing; returns as `archive_runs` does."""
    place = _place(suite_folder)
    files = [suite_folder / name for name in (MEASUREMENTS, PICTURES)]
    count = sum(file.exists() for file in files)
    with ExitStack() as held, writing(place):
        _hold(held, suite_folder, locks.MEASUREMENTS)
        for file in files:
            # The record with the checksum is copied first and removed last: wherever the file is,
            # it has one.
            record = checksums.beside(file)
            if record.exists():
                write_whole(place / record.name, record.read_bytes())
            if file.exists():
                _move(file, place)
            record.unlink(missing_ok=True)
    return count, place


def archive_changed(
    workload: Workload, experiments: Sequence[Experiment], say: Callable[[str], None]
) -> None:
    """Move the runs and step costs of an earlier version of the user's own code to one folder.

    `say` is called with one line about them. A run that another process is working on stays.
    """
    if not sources.of(*experiments):
        return
    folder, place = workload.folder, _place(workload.folder)
    names: list[str] = []
    what: list[str] = []
    n_runs = 0
    for experiment in (e for e in experiments if sources.of(e)):
        with locks.claim(folder, experiment.name) as is_ours:
            if is_ours and (changed := _changed(folder, experiment)):
                _move(folder / experiment.name, place)
                names, n_runs = [*names, *changed], n_runs + 1
    if n_runs:
        what.append(count(n_runs, "run"))
    file = folder / MEASUREMENTS
    with locks.wait_for(folder, locks.MEASUREMENTS), suppress(DamagedRecordError):
        _, moved, changed = _move_changed_rows(file, Measurement, experiments, place)
        names, what = [*names, *changed], [*what, moved] if moved else what
    if what:
        say(_made_anew(" and ".join(what), names, place))


def archive_changed_run(
    workload: Workload, experiment: Experiment, say: Callable[[str], None]
) -> None:
    """Move the run's folder away if the user's own code has changed since it was recorded: by
    another process, after `archive_changed`.

    `say` is called with a line about it. The caller holds the run's lock.
    """
    changed = _changed(workload.folder, experiment)
    if changed:
        place = _place(workload.folder)
        _move(workload.folder / experiment.name, place)
        say(_made_anew(experiment.name, changed, place))


def archive_changed_rows(
    file: Path, kind: type[Any], cases: Sequence[Any], say: Callable[[str], None]
) -> list[Any]:
    """Move rows of measurements.csv away if the user's own code has changed; return the others.

    `say` is called with a line about it. The caller holds the lock.
    """
    place = _place(file.parent)
    kept, moved, changed = _move_changed_rows(file, kind, cases, place)
    if moved:
        say(_made_anew(moved, changed, place))
    return kept


def _changed(suite_folder: Path, experiment: Experiment) -> list[str]:
    """The user's objects that have changed since the run was recorded, if it is."""
    found = records.read_run(suite_folder / experiment.name)
    return sources.changed([found.environment], sources.of(experiment)) if found else []


def _move_changed_rows(
    file: Path, kind: type[Any], cases: Sequence[Any], place: Path
) -> tuple[list[Any], str, list[str]]:
    """Returns the rows that stay, what was moved in words, and the objects that have changed."""
    if not file.exists():
        return [], "", []
    rows, where = records.read_rows(file, kind), checksums.environments(file)
    changed = sources.changed(where, sources.of(*cases))
    old = sources.rows_of(rows, changed)
    if not old:
        return rows, "", []
    kept = [row for row in rows if row not in old]
    with writing(place):
        records.write_rows(place / MEASUREMENTS, kind, old, where)
        records.write_rows(file, kind, kept, sources.of_rows(where, kept))
    return kept, f"{len(old)} of {len(rows)} measurements", changed


def _made_anew(what: str, changed: Iterable[str], place: Path) -> str:
    names = [*dict.fromkeys(changed)]
    are = "has" if len(names) == 1 else "have"
    return f"{what}: {', '.join(names)} {are} changed since: made anew, and the old is in {place}"


def _hold(held: ExitStack, suite_folder: Path, name: str) -> None:
    if not held.enter_context(locks.claim(suite_folder, name)):
        raise UsageError(
            f"--fresh: another process is working on {name} in {suite_folder}: stop it first"
        )


def _place(suite_folder: Path) -> Path:
    """A new folder beside the suite's, with a name that `records.load` skips."""
    name = f"{suite_folder.name}{ARCHIVE}{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    return next(place for n in names if not (place := suite_folder.with_name(n)).exists())


def _move(what: Path, place: Path) -> None:
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        os.rename(what, place / what.name)


def _move_step_costs(workload: Workload, experiments: Sequence[Experiment], place: Path) -> None:
    table = workload.folder / MEASUREMENTS
    if not table.exists():
        return
    try:
        known = records.read_rows(table, Measurement)
    except DamagedRecordError as error:
        for file in filter(Path.exists, error.files):
            _move(file, place)
        return
    asked = {configuration(workload, experiment) for experiment in experiments}
    old = [row for row in known if row.configuration in asked]
    if old:
        where = checksums.environments(table)
        records.write_rows(place / MEASUREMENTS, Measurement, old, where)
        rest = [row for row in known if row.configuration not in asked]
        records.write_rows(table, Measurement, rest, sources.of_rows(where, rest))
