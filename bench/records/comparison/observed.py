"""Single observations of a folder of results."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UsageError
from bench.records import checksums, tables
from bench.records.conditions import CONDITION, conditions_of
from bench.records.measurements import MEASUREMENTS
from bench.records.quantities import ACCURACY, GRADIENT_ERROR, Quantity, kind_of
from bench.records.runs import ARCHIVE, STATISTICS, Run, correct_of, device_names, read_runs

LARGEST_ROUNDING = 1e-5
"""A gradient method with a smaller gradient error is taken for an exact one."""


@dataclass(frozen=True)
class Observed:
    """One quantity of one run or measurement. low, high: its spread, or None. correct: correctly
    classified test images, bool (n,). images: identifies these images."""

    suite: str
    name: str
    identity: Mapping[str, Any]
    seed: int | None
    quantity: str
    value: float
    low: float | None = None
    high: float | None = None
    n_images: int = 0
    correct: np.ndarray | None = None
    images: str = ""


@dataclass(frozen=True)
class Folder:
    """conditions: name → the values in the records."""

    observed: list[Observed]
    conditions: Mapping[str, set[str]]


def read(folder: Path) -> Folder:
    """The results under the folder of a run, of a suite, or of all results. Raises UsageError if
    there are none, or damaged ones."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: name a folder of results")
    observed: list[Observed] = []
    environments: list[Mapping[str, Any]] = []
    runs = read_runs(folder)
    for run in runs:
        observed += _of_run(run)
        environments.append({**run.environment, "data": run.data})
    for file in sorted([*folder.glob(MEASUREMENTS), *folder.glob(f"*/{MEASUREMENTS}")]):
        if ARCHIVE not in str(file.relative_to(folder)):
            is_of_runs = runs and file.parent == folder  # whose folder may be renamed
            observed += _of_table(file, runs[0].suite if is_of_runs else file.parent.name)
            environments += checksums.environments(file)
    if not observed:
        raise UsageError(f"no recorded run or measurement under {folder}: name a folder of results")
    return Folder(observed, _conditions(environments))


def _of_run(run: Run) -> Iterator[Observed]:
    """Observations of the last epoch; of a run that was not completed, only its status."""
    identity = {k: v for k, v in run.experiment.items() if k != "seed"}
    of = partial(Observed, run.suite, run.name, identity, run.experiment["seed"])
    is_ok = run.status == "ok"
    yield of(*Quantity.exact("completed", is_ok))
    if not is_ok or not run.epochs:
        return
    last, correct = run.epochs[-1], correct_of(run)
    images = run.experiment["test_images"] or run.data.get("test_images", 0)
    for kind, name in STATISTICS.items():
        column = "test_accuracy" if kind == "running" else f"test_accuracy_{kind}"
        value = getattr(last, column)
        if value is not None:
            data = str(run.data["fingerprint"])
            yield of(f"{ACCURACY}, {name}", value, None, None, images, correct.get(kind), data)
    yield of("training loss", last.train_loss)
    error = last.gradient_error
    if error is not None and error < LARGEST_ROUNDING:
        yield of(*Quantity.rounded(GRADIENT_ERROR, error, run.experiment.get("precision")))
    elif error is not None:
        yield of(GRADIENT_ERROR, error)  # depends on the weights that training led to
    peak = run.summary.get("peak_memory_bytes")
    if peak is not None:
        yield of(*Quantity.exact("peak memory", peak))
    seconds = [row.seconds_per_step for row in run.epochs]
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    yield of("time per step", median, *((low, high) if len(seconds) > 1 else ()))


def _of_table(file: Path, suite: str) -> Iterator[Observed]:
    """Observations of a table of measurements, of any study."""
    table = tables.parse(checksums.read(file))
    kind = kind_of(table.columns)
    if kind is None:
        raise UsageError(f"{file} was written by another version: compare it with that version")
    for row in tables.as_rows(table, kind):
        identity = {name: getattr(row, name) for name in kind.identity}
        seed = getattr(row, "seed", None)
        name = " ".join(str(value) for value in (*identity.values(), seed) if value is not None)
        for quantity in row.quantities():
            yield Observed(suite, name, identity, seed, *quantity)


def _conditions(environments: Iterable[Mapping[str, Any]]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for environment in environments:
        data = environment.get("data", {})
        stated = {
            "device": device_names(environment),
            "runs at once": environment.get("jobs"),
            "data": data.get("source"),
            "fingerprint of the data": data.get("fingerprint"),
            **{k.removeprefix(CONDITION): v for k, v in conditions_of(environment).items()},
        }
        for name, value in stated.items():
            if value is not None:
                found.setdefault(name, set()).add(str(value))
    return found
