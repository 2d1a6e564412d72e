"""Time and memory of a training step against Nt, batch size and width."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.records import distinct_name
from plots import drawing, labels, series
from plots.growth.sweeps import SWEEPS, by_network, drift, held_fixed

POWERS = {"Nt": (1, 2), "batch size": (1,), "width": (1, 2)}
"""Sweep → the powers whose slopes are drawn for comparison."""
_GUIDES: dict[int, dict[str, Any]] = {1: {"linestyle": "solid"}, 2: {"linestyle": (0, (4, 2))}}
_GREY: dict[str, Any] = {"color": "0.75", "linewidth": 0.8}
_NAMES = {1: "linear growth", 2: "quadratic growth"}

QUANTITIES = {"milliseconds": "time per step (ms)", "mebibytes": "peak memory (MiB)"}
"""Column → the axis's label."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each network and scheme: time above memory, a column for each sweep."""
    files: list[Path] = []
    for (network, method), own in by_network(rows).groupby(["shown", "method"], sort=False):
        where = ["sweep", *(column for column, _ in SWEEPS.values())]
        groups = series.coinciding(own, [*QUANTITIES], where)
        for suffix, page in series.pages(groups):
            name = distinct_name("growth", str(network), str(method)) + suffix
            files += _draw(own, page, folder, name)
    return files


def _draw(rows: pd.DataFrame, groups: list[series.Group], folder: Path, name: str) -> list[Path]:
    sweeps = [sweep for sweep in SWEEPS if sweep in set(rows["sweep"])]
    figure, axes = drawing.subplots(len(QUANTITIES), len(sweeps), height=4.2, sharex="col")
    for j, sweep in enumerate(sweeps):
        own = rows[rows["sweep"] == sweep]
        column, label = SWEEPS[sweep]
        axes[0, j].set_title(held_fixed(own))
        axes[-1, j].set_xlabel(label)
        for axis, quantity in zip(axes[:, j], QUANTITIES, strict=True):
            spread = _quartiles if quantity == "milliseconds" else lambda rows: None
            series.plot(axis, own, column, quantity, groups, spread)
            _guides(axis, own[column], own[quantity], POWERS[sweep])
            drawing.ticks(axis.yaxis, drawing.one_two_five(own[quantity]))
            drawing.ticks(axis.xaxis, sorted(own[column].unique()))
    for axis, label in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        axis.set_ylabel(label)
    powers = sorted({power for sweep in sweeps for power in POWERS[sweep]})
    guides = [(Line2D([], [], **_GREY, **_GUIDES[power]), _NAMES[power]) for power in powers]
    drawing.legend(figure, [*series.entries(groups), *guides])
    first = rows.iloc[0]
    drawing.caption(
        figure,
        f"{labels.network(first['shown'])}, {labels.method(first['method'])}, one training step on "
        f"{first['device']}; medians and quartiles of interleaved steps, corrected by a fixed "
        f"reference step, since the machine's speed changed by {drift(rows) - 1:.0%} between "
        f"points; {labels.how_counted(first['device'])}.",
    )
    return drawing.save(figure, folder, name)


def _quartiles(rows: pd.DataFrame) -> list["pd.Series[float]"]:
    value = rows["milliseconds"]
    return [value - rows["fastest"], rows["slowest"] - value]


def _guides(
    axis: Axes, x: "pd.Series[float]", y: "pd.Series[float]", powers: tuple[int, ...]
) -> None:
    """Draw lines of these slopes behind the curves, from the lower left."""
    axis.set_ylim(y.min() / 1.7, y.max() * 1.4)
    ends = np.array([x.min(), x.max()], dtype=float)
    for power in powers:
        guide = y.min() / 1.35 * (ends / ends[0]) ** power
        axis.plot(ends, guide, **_GREY, **_GUIDES[power], zorder=1, scalex=False, scaley=False)
