"""The cost of a training step as a table, with the bars."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import write_whole
from plots import labels, markdown
from plots.cost.bars import judge
from plots.cost.recomputation import cost_of_recomputation

NOT_MEASURED = "not measured"
_HEAD = ["network", "scheme", "gradient method"]


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write bars.csv, the bars and whether they hold, and cost.md, everything for people."""
    measured = rows[rows["reason"] == ""]
    bars = pd.DataFrame(judge(measured))
    text, csv = folder / "cost.md", folder / "bars.csv"
    parts = [*_steps(measured), *_again(measured), *_compiled(measured), *_failed(rows)]
    write_whole(text, "\n\n".join([*parts, *_bars(bars)]) + "\n")
    write_whole(csv, bars.to_csv(index=False))
    return [csv, text]


def _steps(rows: pd.DataFrame) -> Iterator[str]:
    steps = rows[rows["phase"] == "step"]
    first = steps.iloc[0]
    yield (
        f"One training step of {int(first['batch_size'])} images in {first['precision']} on "
        f"{first['device']}, {int(first['repeats'])} interleaved rounds. Ratio: median and "
        "quartiles of the quotients with backprop's step in the same memory format and execution, "
        f"round by round. Memory: {labels.how_counted(first['device'])}."
    )
    keys = ["network", "method", "n_steps", "gradient", "layout", "execution"]
    seconds = rows.set_index([*keys, "phase"])["seconds"].to_dict()
    parts = ("forward", "backward", "optimizer")
    yield markdown.table(
        [
            *(*_HEAD, "memory format", "run", "ms", "ratio", "forward", "backward", "optimiser"),
            *("images/s", "MiB", "evaluations", "gradient error"),
        ],
        (
            [
                *_head(row),
                labels.memory_format(row.layout),
                row.execution,
                _milliseconds(row.seconds),
                f"{row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f})",
                *(
                    _milliseconds(seconds.get((*(getattr(row, key) for key in keys), part)))
                    for part in parts
                ),
                f"{row.batch_size / row.seconds:.0f}",
                NOT_MEASURED if pd.isna(row.peak_bytes) else f"{row.peak_bytes / 2**20:.1f}",
                NOT_MEASURED
                if pd.isna(row.nfe_forward)
                else f"{int(row.nfe_forward)} + {int(row.nfe_backward)}",
                f"{row.gradient_error:.1g}",
            ]
            for row in steps.itertuples()
        ),
    )


def _again(rows: pd.DataFrame) -> Iterator[str]:
    keys = ["network", "method", "n_steps", "layout", "execution"]
    found = [(own.iloc[0], cost_of_recomputation(own)) for _, own in rows.groupby(keys, sort=False)]
    yield (
        "The cost of running the forward pass again, from backprop's seconds forward (F) and "
        "backward (B):"
    )
    yield markdown.table(
        [*_HEAD[:2], "memory format", "run", "backward ÷ forward", "(2F + B) ÷ (F + B)"],
        (
            [
                *_head(row)[:2],
                labels.memory_format(row["layout"]),
                row["execution"],
                f"{1 / (again - 1) - 1:.2f}",
                f"{again:.2f}",
            ]
            for row, again in found
            if again is not None
        ),
    )


def _compiled(rows: pd.DataFrame) -> Iterator[str]:
    own = rows[rows["phase"] == "compile"]
    if own.empty:
        return
    yield "Compiled once for each shape before the first step, and not in the times above:"
    lines = ([*_head(row), f"{row.seconds:.1f}"] for row in own.itertuples())
    yield markdown.table([*_HEAD, "seconds of compilation"], lines)


def _failed(rows: pd.DataFrame) -> Iterator[str]:
    own = rows[rows["reason"] != ""]
    if own.empty:
        return
    yield "Not measured:"
    yield markdown.table(
        [*_HEAD, "memory format", "why"],
        (
            [*_head(row), labels.memory_format(row.layout), row.reason.replace("|", "\\|")]
            for row in own.itertuples()
        ),
    )


def _bars(bars: pd.DataFrame) -> Iterator[str]:
    if bars.empty:
        return
    yield markdown.table(
        ["network", "scheme", "what", "measured", "bar", "holds"],
        (
            [
                labels.network(bar.network),
                bar.scheme,
                bar.what,
                f"{bar.measured:.3f}",
                bar.bar,
                "yes" if bar.holds else "**no**",
            ]
            for bar in bars.itertuples()
        ),
    )


def _head(row: Any) -> list[str]:
    return [
        labels.network(row.network),
        labels.scheme(row.method, row.n_steps),
        labels.gradient(row.gradient),
    ]


def _milliseconds(seconds: float | None) -> str:
    """Three digits, since a step takes a hundred on a CPU and one on a GPU."""
    if seconds is None:
        return "–"
    return f"{1000 * seconds:.{max(0, 2 - math.floor(math.log10(1000 * seconds)))}f}"
