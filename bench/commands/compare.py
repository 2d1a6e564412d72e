"""Compare two folders of results (--compare A B)."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from bench import cli
from bench.errors import CHECK_FAILED, DONE, writing
from bench.records import write_whole
from bench.records.comparison import Comparison, compare
from bench.records.files import check_writable, make_writable
from bench.records.quantities import ACCURACY
from bench.reporting import terminal
from bench.reporting.terminal import count

VERDICTS = ("same", "within noise", "better", "worse")
MOST_ROWS, MOST_NAMES = 20, 5
"""Numbers of changes of a quantity, and of names in one folder alone, that the terminal shows."""


def run(request: cli.CompareRequest, console: Console) -> int:
    """Print what differs, and write compare.md and compare.csv if --out is given.

    Returns whether a change for the worse exceeds --fail-above, as exit code.
    """
    if request.out:
        check_writable(request.out)
    found = compare(request.before, request.after)
    _print(found, request, console)
    if request.out:
        make_writable(request.out)
        for name, text in (
            ("compare.csv", found.changes.to_csv(index=False)),
            ("compare.md", _markdown(found, request)),
        ):
            with writing(request.out / name):
                write_whole(request.out / name, text)
            console.print(f"wrote {request.out / name}")
    return _verdict(found, request, console)


def _verdict(found: Comparison, request: cli.CompareRequest, console: Console) -> int:
    if request.fail_above is None:
        return DONE
    results = found.results
    # A time without a measured spread differs from run to run for no reason.
    is_noise = results["quantity"].str.startswith("time") & results["noise"].isna()
    is_worse = (results["verdict"] == "worse") & (results["worsening"] > request.fail_above)
    worse = results[is_worse & ~is_noise]
    number = count(len(worse), "change")
    of = ", ".join(worse["quantity"].unique())
    console.print(
        f"--fail-above {request.fail_above:g}: {number} for the worse above it" + (of and f": {of}")
    )
    return CHECK_FAILED if len(worse) else DONE


class _Table(NamedTuple):
    """most: number of rows that the terminal shows; None: all."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]
    most: int | None = None


def _print(found: Comparison, request: cli.CompareRequest, console: Console) -> None:
    changed = found.results[found.results["verdict"].isin(("better", "worse"))]
    changed = changed.sort_values("worsening", ascending=False, kind="stable")
    for part in _tables(found, request, changed):
        shown = part.rows[: part.most]
        console.print(terminal.table(part.columns, shown, part.title))
        if len(shown) < len(part.rows):
            console.print(f"… and {len(part.rows) - len(shown)} more, which --out DIR writes")


def _markdown(found: Comparison, request: cli.CompareRequest) -> str:
    from plots import markdown  # no other command needs matplotlib for this one

    parts = [f"# {request.before} (before) and {request.after} (after)"]
    changes = found.changes.sort_values(["suite", "case"], kind="stable")
    for part in _tables(found, request, changes):
        columns = {name: itemgetter(i) for i, name in enumerate(part.columns)}
        parts += [f"## {part.title}", markdown.table(columns, part.rows)]
    return "\n\n".join(parts) + "\n"


def _tables(
    found: Comparison, request: cli.CompareRequest, changes: pd.DataFrame
) -> Iterator[_Table]:
    """Conditions, what one folder alone has, a summary, and a table for each changed quantity."""
    if found.conditions:
        columns = ("condition", "before", "after")
        yield _Table("Conditions that differ", columns, found.conditions)
    for where, names in ((request.before, found.only_before), (request.after, found.only_after)):
        if names:
            yield _Table(f"Only in {where}", ("name",), [(name,) for name in names], MOST_NAMES)
    summary = [
        (quantity, *((rows["verdict"] == verdict).sum() for verdict in VERDICTS))
        for quantity, rows in found.results.groupby("quantity", sort=False)
    ]
    yield _Table("Summary", ("quantity", *VERDICTS), summary)
    for quantity, rows in changes.groupby("quantity", sort=False):
        yield _of_quantity(str(quantity), rows)


def _of_quantity(quantity: str, rows: pd.DataFrame) -> _Table:
    factor, unit = _unit(quantity)
    has_suites, has_seeds = rows["suite"].nunique() > 1, rows["seed"].any()
    shown = [
        (
            f"{row.suite}: {row.case}" if has_suites else row.case,
            *((row.seed,) if has_seeds else ()),
            f"{factor * row.before:.5g}",
            f"{factor * row.after:.5g}",
            f"{factor * row.difference:+.3g}",
            "–" if pd.isna(row.noise) else f"{factor * row.noise:.3g}",
            row.verdict,
        )
        for row in rows.itertuples()
    ]
    numbers = ("before", "after", "change", "noise")
    columns = ("case", *(("seed",) if has_seeds else ()), *numbers, "verdict")
    title = f"{quantity.capitalize()}{unit and f' ({unit})'}"
    return _Table(title, columns, shown, MOST_ROWS)


def _unit(quantity: str) -> tuple[float, str]:
    """The factor for display, and the unit."""
    if quantity.startswith(ACCURACY):
        return 100, "%"
    if quantity.startswith("time"):
        return 1000, "ms"
    return (2**-20, "MiB") if quantity == "peak memory" else (1, "")
