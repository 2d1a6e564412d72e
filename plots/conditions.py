"""The conditions in which compared results differ, as a sentence for a caption."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench.records import CONDITION, conditions_of

MOST_VALUES = 3
"""Number of values of a condition that a caption shows."""


def differences(results: pd.DataFrame, what: str) -> str:
    """Name the conditions in which results, one row each, differ; "" if all are the same.

    what: the noun for the results. Conditions are the columns that `records.load_runs` has for
    them, and precision and data where they are columns. Results that do not state a condition are
    left out of its comparison.
    """
    found = {
        name.removeprefix(CONDITION): results[name].dropna().unique().tolist()
        for name in results.columns
        if name.startswith(CONDITION) or name == "precision"
    }
    if "fingerprint" in results:
        data = results["data"] + ", fingerprint " + results["fingerprint"]
        found["data"] = data.dropna().unique().tolist()
    named = [f"{name} ({_few(values)})" for name, values in found.items() if len(values) > 1]
    return f" Not the same in all {what}: {'; '.join(named)}." if named else ""


def differences_of_environments(environments: Iterable[Mapping[str, Any]]) -> str:
    """Name the conditions in which the environments of a table's rows differ, as `differences`."""
    rows = [
        {
            **conditions_of(e),
            f"{CONDITION}device": e.get("device_name"),
            "data": e.get("data", {}).get("source"),
            "fingerprint": e.get("data", {}).get("fingerprint"),
        }
        for e in environments
    ]
    return differences(pd.DataFrame(rows), "measurements")


def _few(values: list[Any]) -> str:
    more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return " | ".join(map(str, values[:MOST_VALUES])) + more
