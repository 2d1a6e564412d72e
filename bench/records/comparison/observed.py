"""Single observations of a folder of results."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import UsageError
from bench.records import checksums, tables
from bench.records.conditions import CONDITION, conditions_of
from bench.records.measurements import MEASUREMENTS
from bench.records.runs import ARCHIVE, STATISTICS, Run, correct_of, device_names, read_runs

ACCURACY, GRADIENT_ERROR = "accuracy", "gradient error"
"""Beginnings of the names of these quantities."""

IDENTITY = (
    *("sweep", "problem", "network", "scheme", "method", "n_steps", "gradient", "activation"),
    *("weights", "scale", "batch_size", "width", "compared", "tolerance", "memory_format"),
    *("precision", "execution", "device", "phase", "part"),
)
"""The columns of measurements.csv that identify a measurement, besides seed."""

ROUNDING = {"float64": 1e-14}
"""Precision → rounding of a gradient error that is not 0; 1e-6 for the others."""

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
    yield of("completed", *_exact(is_ok))
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
        yield of(GRADIENT_ERROR, *_rounded(error, run.experiment.get("precision")))
    elif error is not None:
        yield of(GRADIENT_ERROR, error)  # depends on the weights that training led to
    peak = run.summary.get("peak_memory_bytes")
    if peak is not None:
        yield of("peak memory", *_exact(peak))
    seconds = [row.seconds_per_step for row in run.epochs]
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    yield of("time per step", median, *((low, high) if len(seconds) > 1 else ()))


def _of_table(file: Path, suite: str) -> Iterator[Observed]:
    """Observations of a table of measurements, of any study."""
    for row in tables.parse(checksums.read(file)).to_dict("records"):
        identity = {name: row[name] for name in IDENTITY if name in row}
        name = " ".join(str(row[name]) for name in (*IDENTITY, "seed") if name in row)
        for quantity, *values in _quantities(row):
            if pd.notna(values[0]):
                yield Observed(suite, name, identity, row.get("seed"), quantity, *values)


def _quantities(row: Mapping[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Quantity, value, low and high."""
    if row.get("quantity") == "seconds_per_step":
        yield "time per step before training", row["value"], row["low"], row["high"]
    if "seconds" in row:  # growth's spread is of the quotients with the reference step
        unit = row["seconds"] / row["relative"] if "relative" in row else 1.0
        yield "time per step", row["seconds"], row["low"] * unit, row["high"] * unit
    is_ok = row.get("status", "ok") == "ok"
    if "status" in row:
        yield "completed", *_exact(is_ok)
    if row.get("phase", "step") == "step":
        if "peak_bytes" in row and is_ok:
            yield "peak memory", *_exact(row["peak_bytes"])
        for column in {"error", "gradient_error"} & row.keys():
            yield GRADIENT_ERROR, *_rounded(row[column], row.get("precision"))
    for column in {"discrete", "continuous", "difference"} & row.keys():
        yield f"{GRADIENT_ERROR}, {column}", *_rounded(row[column], "float64")
    if "rho" in row:
        yield "reversal error", row["rho"]


def _exact(value: float) -> tuple[float, float, float]:
    """A value that has no spread."""
    return float(value), float(value), float(value)


def _rounded(error: float, precision: str | None) -> tuple[float, float, float]:
    rounding = ROUNDING.get(precision or "", 1e-6) / 2
    return error, error - rounding, error + rounding


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
