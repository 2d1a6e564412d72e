"""The parts that every figure has: axes, ticks, a legend, a caption, and the files."""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from plots import labels, output, style

Entry = tuple[Artist, str]
"""A legend's handle and its label."""
Facet = tuple[str, Callable[[Any], str]]
"""A column of rows by which a figure is divided into panels, and the label of its values."""
MEBIBYTE = 2**20


def subplots(
    rows: int,
    columns: int,
    *,
    height: float,
    width: float | None = None,
    layout: Any = "constrained",
    **shared: Any,
) -> tuple[Figure, Any]:
    """Make a figure and its axes (rows, columns), without pyplot and its backends.

    height and width in inches; width is that of the columns unless it is given. shared: sharex and
    sharey, as `Figure.subplots` takes them.
    """
    figure = Figure(figsize=(width or style.width(columns), height), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def grid(
    rows: pd.DataFrame,
    *,
    x: str,
    y: str,
    across: Facet = ("network", labels.network),
    down: Facet = ("method", labels.method),
    row_height: float = 1.7,
    **shared: Any,
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Make a figure with a column of panels for each value of `across`, a row for each of `down`.

    Returns it and each panel with its rows. x and y are the axes' labels, row_height is in inches.
    """
    (column, title), (row, name) = across, down
    columns, lines = list(rows[column].unique()), list(rows[row].unique())
    height = 1.0 + row_height * len(lines)
    figure, axes = subplots(len(lines), len(columns), height=height, **shared)
    for j, value in enumerate(columns):
        axes[0, j].set_title(title(value))
        axes[-1, j].set_xlabel(x)
    for i, value in enumerate(lines):
        axes[i, 0].set_ylabel(f"{name(value)}\n{y}".strip())
    return figure, [
        (axes[i, j], rows[(rows[column] == columns[j]) & (rows[row] == lines[i])])
        for i in range(len(lines))
        for j in range(len(columns))
    ]


def ticks(axis: Axis, at: Iterable[float]) -> None:
    """Label these values and no others."""
    values = list(at)
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    axis.set_minor_locator(NullLocator())


def one_two_five(values: "pd.Series[float]") -> list[float]:
    """1, 2, 5, 10, … in the range of the values; powers of ten alone for many decades."""
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 100 * low else (1,)
    every = [step * 10.0**decade for decade in decades for step in steps]
    return [value for value in every if low / 1.3 <= value <= high * 1.3]


def legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw one legend for all panels, below them."""
    handles, names = zip(*entries, strict=True)
    is_wide = figure.get_figwidth() > style.ONE_COLUMN
    for columns in range(3 if is_wide else 1, 0, -1):
        drawn = figure.legend(
            handles,
            names,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=min(columns, len(entries)),
            handlelength=3,
        )
        if columns == 1 or drawn.get_window_extent().width < figure.bbox.width:
            break
        drawn.remove()


def caption(figure: Figure, text: str, *, exact: bool = False) -> None:
    """Write the caption below the legend, in lines of about one length.

    exact: curves with one entry in the legend are equal, and not only within `series.SAME`.
    """
    figure.draw_without_rendering()  # the height of a legend is known only then
    names = [name.get_text() for legend in figure.legends for name in legend.get_texts()]
    if any("\n= " in name for name in names):  # series.name
        text += f" =: {'equal in every value' if exact else 'the same curve, within 1%'}."
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    coinciding = [line for line in lines if isinstance(line.get_markevery(), tuple)]  # series.plot
    if any(np.size(line.get_xdata()) > 1 for line in coinciding):
        text += " Dashes of several colours: curves that coincide."
    if any(np.size(line.get_xdata()) == 1 for line in coinciding):
        text += " A mark inside another: values that coincide."
    text += output.current().note
    lowest = min((legend.get_window_extent().y0 for legend in figure.legends), default=0.0)
    figure.text(
        0.5,
        lowest / figure.bbox.height - 0.08 / figure.get_figheight(),
        balanced(text, int(figure.get_figwidth() * 23)),
        ha="center",
        va="top",
        fontsize=6,
        color="0.35",
        gid=output.CAPTION,
        label=text,
    )


def balanced(text: str, width: int) -> str:
    """Wrap a text into as few lines of at most `width` letters as it needs, all about as long."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    for narrower in range(width - 1, width // 2, -1):
        shorter = textwrap.wrap(text, narrower, break_on_hyphens=False)
        if len(shorter) > len(lines):
            break
        lines = shorter
    return "\n".join(lines)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png and NAME.svg, or the formats that were chosen, and return the files."""
    return output.write(figure, folder, name)
