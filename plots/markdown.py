"""Tables in Markdown, and how they write numbers."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt

from bench.records import write_whole

Columns = Mapping[str, Callable[[Any], object]]
"""Header → what a row has in this column."""


def table(columns: Columns, rows: pd.DataFrame | Iterable[Any]) -> str:
    """A Markdown table, without a line break at its end. A frame's rows are named tuples."""
    if isinstance(rows, pd.DataFrame):
        rows = rows.itertuples(index=False)
    cells = [[str(f(row)).replace("|", r"\|") for f in columns.values()] for row in rows]
    lines = [[*columns], ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(
    folder: Path, name: str, paragraphs: Iterable[str], tables: Mapping[str, pd.DataFrame]
) -> list[Path]:
    """Write each table as a CSV file and the paragraphs as NAME.md; return the files."""
    contents = {folder / f"{stem}.csv": table.to_csv(index=False) for stem, table in tables.items()}
    contents[folder / f"{name}.md"] = "\n\n".join(paragraphs) + "\n"
    for file, content in contents.items():
        write_whole(file, content)
    return [*contents]


def value(name: Hashable, form: str) -> Callable[[Any], object]:
    """The column of rows, which are mappings, that shows an entry in this format."""
    return lambda row: number(row[name], form)


def number(value: float | None, form: str) -> str:
    """A number in this format, or a dash where there is none."""
    return "–" if pd.isna(value) else f"{value:{form}}"


def listed(values: "pd.Series[int]") -> str:
    """The values of a column, each once, sorted, separated by commas."""
    return ", ".join(str(value) for value in sorted(values.unique()))


def blocks(text: str) -> Iterator[str | pd.DataFrame]:
    """The paragraphs and the tables of a Markdown text, in their order, without its marks."""
    rows: list[list[str]] = []
    inside = ""
    for token in READER.parse(text):
        if token.type in ("table_open", "tr_open"):
            rows, inside = ([], "table") if token.type == "table_open" else ([*rows, []], inside)
        elif token.type == "table_close":
            yield pd.DataFrame(rows[1:], columns=rows[0])
            inside = ""
        elif token.type == "inline":
            said = "".join(
                " " if part.type == "softbreak" else part.content for part in token.children or ()
            )
            if inside:
                rows[-1].append(said)
            else:
                yield said


READER = MarkdownIt("commonmark", {"html": False}).enable("table")
"""Reads Markdown; HTML in it stays text."""
