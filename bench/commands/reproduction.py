"""A recorded run, run again: does it come out the same?"""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import records
from bench.errors import UsageError, unwritable
from bench.experiment import Experiment
from bench.records import ASIDE, WALL_CLOCK_COLUMNS, Run

AGAIN = f"{ASIDE}reproduced"
"""What the name of the folder ends with in which it is run again; `records.load` passes over it."""


@dataclass(frozen=True)
class Difference:
    """The first epoch in which a column is not the same."""

    column: str
    epoch: int
    recorded: Any
    now: Any


def find(suite_folder: Path, name: str) -> Run:
    """The recorded run of that name in a suite's folder, or in the folder that is named.

    Raises UsageError when there is none, or it is no result to reproduce.
    """
    run = next((r for f in (suite_folder / name, Path(name)) if (r := _read(f))), None)
    if run is None:
        raise UsageError(
            f"no run {name} is recorded in {suite_folder}: --status shows those that are"
        )
    if run.status == "failed":
        raise UsageError(f"the run {name} failed, and is no result: run the suite again")
    return run


def _read(folder: Path) -> Run | None:
    try:
        is_there = (folder / records.RUN).is_file()
    except (OSError, ValueError):  # no name that a file can have
        return None
    return records.read_whole_run(folder) if is_there else None


def experiment_of(run: Run) -> Experiment:
    """What was recorded. Raises UsageError when this version knows no such experiment."""
    try:
        return Experiment(**run.experiment)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the run {run.name} cannot be run by this version ({error}): use that of its git "
            f"revision, {run.environment.get('git_revision')}"
        ) from error


def place(results: Path, suite: str, name: str) -> Path:
    """The folder of results in which the run is run again: beside the suite's. A try that was
    stopped is there still, and is gone on with; one that ended goes away."""
    folder = results / f"{suite}{AGAIN}"
    try:
        if (folder / suite / name / records.RUN).exists():
            shutil.rmtree(folder / suite / name)
    except OSError as error:
        raise unwritable(str(folder), error) from error
    return folder


def differences(recorded: Run, now: Run) -> list[Difference]:
    """What is not the same, to the last bit; wall clock aside. A column each, and its first epoch.

    status, and the number of epochs, stand for epoch 0.
    """
    found = {
        name: Difference(name, 0, was, is_)
        for name, was, is_ in (
            ("status", recorded.status, now.status),
            ("epochs", len(recorded.epochs), len(now.epochs)),
            *(
                (name, recorded.summary.get(name), now.summary.get(name))
                for name in ("peak_memory_bytes",)
            ),
        )
        if was != is_
    }
    for before, after in zip(recorded.epochs, now.epochs, strict=False):
        for name, was, is_ in _columns(asdict(before), asdict(after)):
            if not _same(was, is_):
                found.setdefault(name, Difference(name, before.epoch, was, is_))
    return list(found.values())


def changes(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of the environment is not as it was, in words."""
    before, after = _flat(recorded), _flat(now)
    return [
        f"{name}: {before.get(name)} → {after.get(name)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name not in _OF_ITS_TIME
    ]


_OF_ITS_TIME = ("command", "recorded_at", "started_at", "resumed_at", "jobs")


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages", {})
    return {**{k: v for k, v in environment.items() if k != "packages"}, **packages}


def _columns(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in before:
        if name not in WALL_CLOCK_COLUMNS:
            yield name, before[name], after[name]


def _same(was: Any, is_: Any) -> bool:
    if isinstance(was, Sequence) and isinstance(is_, Sequence):
        return len(was) == len(is_) and all(map(_same, was, is_))
    both = isinstance(was, float) and isinstance(is_, float)
    return was == is_ or (both and math.isnan(was) and math.isnan(is_))
