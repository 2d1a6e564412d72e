"""Compare two folders of results: pairs of runs and measurements, differences and their noise."""

import math
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
from bench.records.paired import paired_noise, unpaired_noise
from bench.records.runs import ASIDE, Run, correct_of, device_names, read_runs

STATISTICS = ("", "forward", "reestimated", "per_evaluation", "batch", "plain")
"""Kinds of BatchNorm statistics as in the columns test_accuracy_…; the first: running."""

ACCURACY = "accuracy"
GREATER_IS_BETTER = (ACCURACY, "completed")
"""How the names of the quantities begin of which more is better."""

IDENTITY = (
    *("sweep", "problem", "network", "scheme", "method", "n_steps", "gradient", "activation"),
    *("weights", "scale", "batch_size", "width", "compared", "tolerance", "layout", "precision"),
    *("execution", "device", "phase", "part"),
)
"""The columns of measurements.csv that say what was measured, besides seed."""

LABELS = {"n_steps": "Nt", "batch_size": "batch", "num_epochs": "epochs"}
"""Column → what it is called before its number."""

ROUNDING = {"float64": 1e-14}
"""Precision → rounding of a gradient error that is not 0; others: 1e-6."""

LARGEST_ROUNDING = 1e-5
"""The gradient error of a run below which its gradient method is taken for an exact one."""

STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5 % quantiles of Student's t for 1, 2, … degrees of freedom."""


@dataclass(frozen=True)
class Comparison:
    """changes: one row for each pair and quantity, with the columns

        suite, case, seed   case leaves out what all compared runs or measurements share; seed is
                            a number, "" where there is none, or "mean" over the seeds
        quantity
        before, after       accuracies and gradient errors as fractions, seconds, bytes
        difference, noise   after - before; noise: NaN where it is not known
        verdict             "same", "within noise", "better" or "worse"
        worsening           how much worse, as a fraction: of the value before, accuracies in
                            absolute terms; negative where better
        is_result           false for the seeds whose mean is another row

    conditions: name, before, after, of the conditions that differ. only_before, only_after: names.
    """

    changes: pd.DataFrame
    conditions: tuple[tuple[str, str, str], ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def results(self) -> pd.DataFrame:
        """The changes over the seeds, where there are several."""
        return self.changes[self.changes["is_result"]]


@dataclass(frozen=True)
class _Observed:
    """One quantity of one run or measurement. low, high: its spread, None where not known. correct:
    per test image, where recorded; images: what identifies these."""

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
class _Folder:
    observed: list[_Observed]
    conditions: Mapping[str, set[str]]


def compare(before: Path, after: Path) -> Comparison:
    """Compare two folders: of a run, of a suite, or of all results.

    Suites are paired by name where a folder holds several. Raises UsageError when a folder holds
    no results or damaged ones, or when the two have nothing in common.
    """
    folders = [_read(before), _read(after)]
    by_suite = any(len({o.suite for o in folder.observed}) > 1 for folder in folders)
    first, second = ({_key(o, by_suite): o for o in folder.observed} for folder in folders)
    pairs = [(first[key], second[key]) for key in first if key in second]
    if not pairs:
        raise UsageError(
            f"{before} and {after} have no experiment and no measurement in common: name two "
            "folders with results of the same suite"
        )
    names = [dict.fromkeys(key[:2] for key in side) for side in (first, second)]
    return Comparison(
        _changes(pairs),
        tuple(_differing(folders[0].conditions, folders[1].conditions)),
        *(
            tuple("/".join(filter(None, name)) for name in one if name not in other)
            for one, other in (names, names[::-1])
        ),
    )


def _key(observed: _Observed, by_suite: bool) -> tuple[str, str, str]:
    return (observed.suite if by_suite else "", observed.name, observed.quantity)


def _read(folder: Path) -> _Folder:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: name a folder of results")
    observed: list[_Observed] = []
    environments: list[Mapping[str, Any]] = []
    runs = read_runs(folder)
    for run in runs:
        observed += _of_run(run)
        environments.append({**run.environment, "data": run.data})
    for pattern in (MEASUREMENTS, f"*/{MEASUREMENTS}"):
        for file in sorted(folder.glob(pattern)):
            if ASIDE not in str(file.relative_to(folder)):
                is_of_runs = runs and file.parent == folder  # whose folder may be renamed
                observed += _of_table(file, runs[0].suite if is_of_runs else file.parent.name)
                environments += checksums.environments(file)
    if not observed:
        raise UsageError(f"no recorded run or measurement under {folder}: name a folder of results")
    return _Folder(observed, _conditions(environments))


def _of_run(run: Run) -> Iterator[_Observed]:
    """What the last epoch shows; nothing but its status for a run that was not completed."""
    identity = {k: v for k, v in run.experiment.items() if k != "seed"}
    of = partial(_Observed, run.suite, run.name, identity, run.experiment["seed"])
    is_ok = run.status == "ok"
    yield of("completed", *_exact(is_ok))
    if not is_ok or not run.epochs:
        return
    last, correct = run.epochs[-1], correct_of(run)
    images = run.experiment["test_images"] or run.data.get("test_images", 0)
    for kind in STATISTICS:
        value = getattr(last, f"test_accuracy_{kind}" if kind else "test_accuracy")
        if value is not None:
            bits, name = correct.get(kind or "running"), kind.replace("_", " ") or "running"
            data = str(run.data["fingerprint"])
            yield of(f"{ACCURACY}, {name}", value, None, None, images, bits, data)
    yield of("training loss", last.train_loss)
    error = last.gradient_error
    if error is not None and error < LARGEST_ROUNDING:
        yield of("gradient error", *_rounded(error, run.experiment.get("precision")))
    elif error is not None:
        yield of("gradient error", error)  # depends on the weights that training led to
    peak = run.summary.get("peak_memory_bytes")
    if peak is not None:
        yield of("peak memory", *_exact(peak))
    seconds = [row.seconds_per_step for row in run.epochs]
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    if len(seconds) > 1:
        yield of("time per step", median, low, high)
    else:
        yield of("time per step", median)


def _of_table(file: Path, suite: str) -> Iterator[_Observed]:
    """What a table of measurements says, whichever study wrote it."""
    for row in tables.parse(checksums.read(file)).to_dict("records"):
        identity = {name: row[name] for name in IDENTITY if name in row}
        name = " ".join(str(row[name]) for name in (*IDENTITY, "seed") if name in row)
        for quantity, *values in _quantities(row):
            if pd.notna(values[0]):
                yield _Observed(suite, name, identity, row.get("seed"), quantity, *values)


def _quantities(row: Mapping[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Quantity, value, low and high."""
    if row.get("quantity") == "seconds_per_step":
        yield "time per step before training", row["value"], row["low"], row["high"]
    if "seconds" in row:  # growth's spread is that of the quotients with the yardstick
        unit = row["seconds"] / row["relative"] if "relative" in row else 1.0
        yield "time per step", row["seconds"], row["low"] * unit, row["high"] * unit
    is_ok = row.get("status", "ok") == "ok"
    if "status" in row:
        yield "completed", *_exact(is_ok)
    if row.get("phase", "step") == "step":
        if "peak_bytes" in row and is_ok:
            yield "peak memory", *_exact(row["peak_bytes"])
        for column in {"error", "gradient_error"} & row.keys():
            yield "gradient error", *_rounded(row[column], row["precision"])
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


def _differing(
    before: Mapping[str, set[str]], after: Mapping[str, set[str]]
) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys([*before, *after]):
        sides = [" | ".join(sorted(side.get(name, ()))) for side in (before, after)]
        if sides[0] != sides[1]:
            yield name, sides[0] or "not stated", sides[1] or "not stated"


def _changes(pairs: list[tuple[_Observed, _Observed]]) -> pd.DataFrame:
    rows = [
        {
            "suite": b.suite,
            "case": case,
            "seed": "" if b.seed is None else str(b.seed),
            "quantity": b.quantity,
            "before": a.value,
            "after": b.value,
            "difference": 0.0 if a.value == b.value else b.value - a.value,
            "noise": _noise(a, b),
        }
        for (a, b), case in zip(pairs, _cases([b for _, b in pairs]), strict=True)
    ]
    frame = pd.DataFrame(rows)
    groups = frame[frame["seed"] != ""].groupby(["suite", "case", "quantity"], sort=False)
    means = [_mean(group) for _, group in groups if len(group) > 1]
    frame["is_result"] = ~frame.index.isin([i for _, g in groups if len(g) > 1 for i in g.index])
    frame = pd.concat([frame, pd.DataFrame(means)], ignore_index=True)
    greater = frame["quantity"].str.startswith(GREATER_IS_BETTER)
    worse_by = frame["difference"].where(~greater, -frame["difference"])
    is_more = (worse_by.abs() > frame["noise"].fillna(0.0)) & (worse_by != 0)
    frame["verdict"] = np.select(
        [frame["difference"] == 0, ~is_more, worse_by > 0],
        ["same", "within noise", "worse"],
        "better",
    )
    unit = frame["before"].abs().where(~greater, 1.0)
    frame["worsening"] = (worse_by / unit).where(worse_by != 0, 0.0)
    return frame


def _noise(before: _Observed, after: _Observed) -> float:
    """The largest difference that may be chance; NaN where it is not known."""
    a, b = before, after
    if a.quantity.startswith(ACCURACY):
        if a.correct is not None and b.correct is not None and a.images == b.images:
            return paired_noise(a.correct, b.correct)
        sizes = a.n_images, b.n_images
        return unpaired_noise(a.value, b.value, sizes) if all(sizes) else math.nan
    if a.quantity == "gradient error" and 0 in (a.value, b.value):
        return 0.0  # there the gradient has the bits of backprop's
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return math.nan
    lower, upper = sorted((a, b), key=lambda observed: observed.value)
    return float((lower.high or 0.0) - lower.value + upper.value - (upper.low or 0.0))


def _mean(seeds: pd.DataFrame) -> dict[str, Any]:
    """The result over the seeds: 95 % by Student's t, and no less than what the seeds' own noise
    leaves of it."""
    n, differences = len(seeds), seeds["difference"]
    quantile = STUDENT_T[n - 2] if n - 2 < len(STUDENT_T) else 2.0
    of_seeds = math.sqrt((seeds["noise"] ** 2).sum()) / n
    return {
        **seeds.iloc[0][["suite", "case", "quantity"]],
        "seed": "mean",
        **seeds[["before", "after", "difference"]].mean(),
        "noise": max(quantile * float(differences.sem()), of_seeds),
        "is_result": True,
    }


def _cases(observed: list[_Observed]) -> list[str]:
    """Names that say what the observations of one kind in a suite do not share."""
    kinds = [(o.suite, *o.identity) for o in observed]
    shown: dict[tuple[str, ...], set[str]] = {}
    for kind in set(kinds):
        of_kind = zip(observed, kinds, strict=True)
        frame = pd.DataFrame([o.identity for o, k in of_kind if k == kind]).astype(str)
        varying = {str(name) for name in frame if frame[name].nunique() > 1}
        shown[kind] = varying | {"network", "gradient"}
    return [_case(o.identity, shown[kind]) for o, kind in zip(observed, kinds, strict=True)]


def _case(identity: Mapping[str, Any], shown: set[str]) -> str:
    if identity.get("gradient") == "baseline":
        shown = shown - {"method", "n_steps"}
    return ", ".join(
        value if isinstance(value, str) else f"{LABELS.get(name, name)} {value}"
        for name, value in identity.items()
        if name in shown
    )
