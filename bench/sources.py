"""The user's own code that results come from: what is named by `package.module:Object`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from bench import plugins

Row = TypeVar("Row")


def of(*cases: Any) -> dict[str, str]:
    """`package.module:Object` → SHA-256 of its source, of what experiments and cases name."""
    experiments = [e for case in cases for e in getattr(case, "experiments", (case,))]
    names = ("network", "method", "gradient", "scheme")
    return plugins.sources(getattr(e, name, "") for e in experiments for name in names)


def changed(environments: Iterable[Mapping[str, Any]], now: Mapping[str, str]) -> list[str]:
    """The objects whose source differs from that in the last environment that states one.

    Records of earlier versions state no source and count as unchanged.
    """
    then = {k: v for found in environments for k, v in found.get("sources", {}).items()}
    return [name for name, source in now.items() if then.get(name, source) != source]


def rows_of(rows: Sequence[Row], objects: Iterable[str]) -> list[Row]:
    """The rows in whose names one of these objects stands, with parameters or without."""
    starts = tuple(f"{name}:" for name in objects)
    return [
        row
        for row in rows
        if any(
            f"{part}:".startswith(starts)
            for value in vars(row).values()
            if isinstance(value, str)
            for part in value.split(",")
        )
    ]
