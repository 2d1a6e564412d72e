"""Old results, kept aside when somebody wants to start over (--fresh)."""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import records
from bench.context import Workload
from bench.errors import UsageError, unwritable
from bench.execution.step_costs import configuration
from bench.experiment import Experiment
from bench.records import ASIDE, MEASUREMENTS, PICTURES, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.records.files import write_whole


def put_aside(workload: Workload, experiments: Sequence[Experiment]) -> tuple[int, Path]:
    """Move what there is of the experiments, checkpoints too, out of the suite's folder; returns
    of how many there was something, and where it is now.

    No more than these: of a suite's other experiments days of training may be there. Of
    measurements.csv what it says of their configurations is moved. Raises UsageError when
    another process is running one of them.
    """
    place = _place(workload.folder)
    asked = [e for e in experiments if (workload.folder / e.name).exists()]
    with ExitStack() as held:
        # Those of which there is nothing yet, too: one may be in its first epoch.
        for name in (locks.MEASUREMENTS, *(e.name for e in experiments)):
            if not held.enter_context(locks.claim(workload.folder, name)):
                raise UsageError(
                    f"--fresh: another process is working on {name} in {workload.folder}: stop it "
                    "first"
                )
        try:
            for experiment in asked:
                _move(workload.folder / experiment.name, place)
            _move_measurements(workload, experiments, place)
        except OSError as error:
            raise unwritable(str(place), error) from error
    return len(asked), place


def put_measurements_aside(suite_folder: Path) -> tuple[int, Path]:
    """Move all that was measured in a suite that trains nothing; returns as `put_aside` does."""
    place = _place(suite_folder)
    files = [suite_folder / name for name in (MEASUREMENTS, PICTURES)]
    there = [file for file in files if file.exists()]
    with locks.claim(suite_folder, locks.MEASUREMENTS) as is_ours:
        if not is_ours:
            raise UsageError(
                f"--fresh: another process is measuring in {suite_folder}: stop it first"
            )
        try:
            for file in files:
                _move_sealed(file, place)
        except OSError as error:
            raise unwritable(str(place), error) from error
    return len(there), place


def _place(suite_folder: Path) -> Path:
    """A folder beside the suite's, which has a name that `records.load` passes over."""
    name = f"{suite_folder.name}{ASIDE}{time.strftime('%Y%m%d-%H%M%S')}"
    places = (
        suite_folder.with_name(f"{name}{more}") for more in ("", *(f"-{i}" for i in range(2, 99)))
    )
    return next(place for place in places if not place.exists())


def _move(what: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    os.rename(what, place / what.name)


def _move_sealed(file: Path, place: Path) -> None:
    """Move a file and its record. The record is there before it and here after it, so that the file
    is whole wherever it is when something fails."""
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
