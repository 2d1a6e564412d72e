"""The conditions of a result: what two results must share for their difference to mean anything."""

from collections.abc import Mapping
from typing import Any

CONDITION = "condition: "
"""Beginning of the names of the columns; see `conditions_of`."""

_KEYS = ("threads", "memory_format", "huge_pages", "python", "cuda", "cudnn", "driver")


def conditions_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """The conditions that a record's environment states, as columns of text.

    Software, threads and memory format, and the source of the user's own code. Where the parts of
    a run that was stopped differ, the values of all are joined in their order.
    """
    parts = [*(environment.get("earlier_parts") or ()), environment]
    found: dict[str, list[str]] = {}
    for part in parts:
        stated = {key: part[key] for key in _KEYS if part.get(key) is not None}
        if part.get("version"):
            stated["anode-bench"] = part["version"]
        if part.get("git_revision"):
            dirty = " with changes" if part.get("git_dirty") else ""
            stated["git_revision"] = part["git_revision"][:7] + dirty
        stated |= part.get("packages", {})
        stated |= {f"source of {k}": v[:7] for k, v in part.get("sources", {}).items()}
        for name, value in stated.items():
            found.setdefault(f"{CONDITION}{name.replace('_', ' ')}", []).append(str(value))
    return {name: ", then ".join(dict.fromkeys(values)) for name, values in found.items()}
