"""What results that stand side by side do not share, for the caption."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pandas as pd

from bench.records import CONDITION, conditions_of

SHOWN = 3
"""How many values of a condition a caption has room for."""


def not_the_same(results: pd.DataFrame, what: str) -> str:
    """A sentence that names the conditions in which results, a row each, differ; or "".

    what: the name of the results in the sentence. The conditions are the columns that
    `records.load_runs` has for them, and precision and data where they are columns. A condition is
    compared among the results that state it.
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


def _few(values: list[Any]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return " | ".join(map(str, values[:SHOWN])) + more


def not_the_same_environments(environments: Iterable[Mapping[str, Any]]) -> str:
    """The same sentence of the environments in which the rows of a table were measured."""
    rows = [
        {
            **conditions_of(e),
            f"{CONDITION}device": e.get("device_name"),
            "data": e.get("data", {}).get("source"),
            "fingerprint": e.get("data", {}).get("fingerprint"),
        }
        for e in environments
    ]
    return not_the_same(pd.DataFrame(rows), "measurements")


@contextmanager
def stated(sentence: str) -> Iterator[None]:
    """A context in which every caption ends with the sentence."""
    token = _caveat.set(sentence)
    try:
        yield
    finally:
        _caveat.reset(token)


def caveat() -> str:
    """What is `stated` in this context; else ""."""
    return _caveat.get()


_caveat: ContextVar[str] = ContextVar("caveat", default="")
