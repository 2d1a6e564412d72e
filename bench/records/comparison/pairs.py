"""Compare two folders of results: runs and measurements in pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import UsageError
from bench.records.comparison import noise
from bench.records.comparison.observed import Observed, read
from bench.records.quantities import ACCURACY

GREATER_IS_BETTER = (ACCURACY, "completed")
"""Beginnings of the names of quantities of which more is better."""

LABELS = {"n_steps": "Nt", "batch_size": "batch", "num_epochs": "epochs"}
"""Column → its name before a number."""


@dataclass(frozen=True)
class Comparison:
    """changes: one row for each pair and quantity, with the columns

        suite, case, seed   case: without what all compared runs or measurements share; seed: a
                            number, "" if there is none, or "mean" over the seeds
        quantity
        before, after       accuracies and gradient errors as fractions, seconds, bytes
        difference, noise   after - before; noise: NaN if it is not known
        verdict             "same", "within noise", "better" or "worse"
        worsening           how much worse, as a fraction: of the value before, accuracies in
                            absolute terms; negative if better
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


def compare(before: Path, after: Path) -> Comparison:
    """Compare two folders: of a run, of a suite, or of all results.

    Suites are paired by name if a folder holds several. Raises UsageError if a folder holds no
    results or damaged ones, or if the two have nothing in common.
    """
    folders = [read(before), read(after)]
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


def _key(observed: Observed, by_suite: bool) -> tuple[str, str, str]:
    return (observed.suite if by_suite else "", observed.name, observed.quantity)


def _differing(
    before: Mapping[str, set[str]], after: Mapping[str, set[str]]
) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys([*before, *after]):
        sides = [" | ".join(sorted(side.get(name, ()))) for side in (before, after)]
        if sides[0] != sides[1]:
            yield name, sides[0] or "not stated", sides[1] or "not stated"


def _changes(pairs: list[tuple[Observed, Observed]]) -> pd.DataFrame:
    rows = [
        {
            "suite": b.suite,
            "case": case,
            "seed": "" if b.seed is None else str(b.seed),
            "quantity": b.quantity,
            "before": a.value,
            "after": b.value,
            "difference": 0.0 if a.value == b.value else b.value - a.value,
            "noise": noise.of_pair(a, b),
        }
        for (a, b), case in zip(pairs, _cases([b for _, b in pairs]), strict=True)
    ]
    frame = pd.DataFrame(rows)
    groups = frame[frame["seed"] != ""].groupby(["suite", "case", "quantity"], sort=False)
    means = [_mean(group) for _, group in groups if len(group) > 1]
    frame["is_result"] = ~frame.index.isin([i for _, g in groups if len(g) > 1 for i in g.index])
    if means:
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


def _mean(seeds: pd.DataFrame) -> dict[str, Any]:
    """The result over the seeds."""
    return {
        **seeds.iloc[0][["suite", "case", "quantity"]],
        "seed": "mean",
        **seeds[["before", "after", "difference"]].mean(),
        "noise": noise.of_mean(seeds["difference"], seeds["noise"]),
        "is_result": True,
    }


def _cases(observed: list[Observed]) -> list[str]:
    """Names with the values that the observations of one kind in a suite do not share."""
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
