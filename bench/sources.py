"""The user's own code that results come from: what is named by `package.module:Object`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import models
import solvers
from bench import plugins
from solvers.registry import Registry

Row = TypeVar("Row")


REGISTRIES: Mapping[str, Registry[Any]] = {
    "network": models.NETWORKS,
    "method": solvers.METHODS,
    "gradient": solvers.GRADIENTS,
    "scheme": solvers.METHODS,
}
"""Field that may name the user's own code → where the name is looked up."""


def of(*cases: Any) -> dict[str, str]:
    """`package.module:Object` → SHA-256 of its source, of what experiments and cases name."""
    return plugins.sources(name for name, _ in _names(cases))


def labels(*cases: Any) -> dict[str, str]:
    """Name of the user's own code, with parameters → the object's `label`, or else its `name`."""
    found: dict[str, str] = {}
    for name, field in _names(cases):
        if plugins.is_foreign(name):
            own = REGISTRIES[field].resolve(name)
            label = getattr(own, "label", None) or getattr(own, "name", None)
            found |= {name: " ".join(label.split())} if isinstance(label, str) else {}
    return found


def described(*cases: Any) -> dict[str, dict[str, str]]:
    """The entries `sources` and `labels` of an environment."""
    return {"sources": of(*cases), "labels": labels(*cases)}


def _names(cases: Iterable[Any]) -> list[tuple[str, str]]:
    """Each name in experiments and cases, once, and the field in which it stands."""
    experiments = [e for case in cases for e in getattr(case, "experiments", (case,))]
    return [*dict.fromkeys((getattr(e, f, ""), f) for e in experiments for f in REGISTRIES)]


def changed(environments: Iterable[Mapping[str, Any]], now: Mapping[str, str]) -> list[str]:
    """The objects whose source differs from that in the last environment that states one.

    Records of earlier versions state no source and count as unchanged.
    """
    then = {k: v for found in environments for k, v in found.get("sources", {}).items()}
    return [name for name, source in now.items() if then.get(name, source) != source]


def of_rows(environments: Iterable[Mapping[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """These environments, each with the sources of those objects alone that the rows name."""
    return [
        {
            **e,
            "sources": {
                name: s for name, s in e.get("sources", {}).items() if rows_of(rows, [name])
            },
        }
        for e in environments
    ]


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
