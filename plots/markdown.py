"""Tables in Markdown, and how they write numbers."""

from collections.abc import Iterable, Sequence

import pandas as pd


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, without a line break at its end."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float | None, form: str) -> str:
    """A number in this format, or a dash where there is none."""
    return "–" if pd.isna(value) else f"{value:{form}}"


def listed(values: "pd.Series[int]") -> str:
    """The values of a column, each once, sorted, separated by commas."""
    return ", ".join(str(value) for value in sorted(values.unique()))
