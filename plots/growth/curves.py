"""Time and memory of a training step against Nt, batch size and width."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.records.files import distinct_name
from plots import style

SWEEPS = {
    "Nt": ("n_steps", "steps per block, Nt"),
    "batch size": ("batch_size", "batch size"),
    "width": ("width", "width (channels)"),
}
"""Sweep → the column that differs, and the axis's label."""

GUIDES = {"Nt": (1, 2), "batch size": (1,), "width": (1, 2)}
"""The powers whose slopes are drawn, in grey, for comparison."""

QUANTITIES = {"milliseconds": "time per step (ms)", "mebibytes": "peak memory (MiB)"}
"""Column → the axis's label."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """For each network and scheme a figure: time above memory, a column for each sweep."""
    return [
        file
        for (network, method), part in by_network(rows).groupby(["shown", "method"], sort=False)
        for file in _draw(part, str(network), str(method), folder)
    ]


def by_network(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of what fitted into memory, with more columns.

    shown: the network, ResNet-4 also where it has another width. milliseconds, and its quartiles
    fastest and slowest: in units of the yardstick as measured at each point, times what the
    yardstick takes as a rule, so that it does not matter when a point was measured. mebibytes.
    """
    fitted = rows[rows["status"] == "ok"]
    is_wide = fitted["network"].str.startswith(style.WIDE)
    usual = 1000 * fitted["yardstick"].median()
    return fitted.assign(
        shown=fitted["network"].mask(is_wide, "resnet4"),
        milliseconds=fitted["relative"] * usual,
        fastest=fitted["low"] * usual,
        slowest=fitted["high"] * usual,
        mebibytes=fitted["peak_bytes"] / 2**20,
    )


def drift(rows: pd.DataFrame) -> float:
    """How many times slower the machine was at its slowest point than at its fastest."""
    return float(rows["yardstick"].max() / rows["yardstick"].min())


def _draw(rows: pd.DataFrame, network: str, method: str, folder: Path) -> list[Path]:
    sweeps = [sweep for sweep in SWEEPS if sweep in set(rows["sweep"])]
    gradients = list(rows["gradient"].unique())
    figure, axes = style.subplots(
        len(QUANTITIES),
        len(sweeps),
        figsize=(style.width(len(sweeps)), 4.2),
        sharex="col",
    )
    for j, sweep in enumerate(sweeps):
        own = rows[rows["sweep"] == sweep]
        column, label = SWEEPS[sweep]
        axes[0, j].set_title(held_fixed(own))
        axes[-1, j].set_xlabel(label)
        for i, quantity in enumerate(QUANTITIES):
            axis = axes[i, j]
            for gradient in gradients:
                _curve(axis, own, column, quantity, gradient, gradients)
            _guides(axis, own[column], own[quantity], GUIDES[sweep])
            style.ticks(axis.yaxis, style.one_two_five(own[quantity]))
            style.ticks(axis.xaxis, sorted(own[column].unique()))
    for i, label in enumerate(QUANTITIES.values()):
        axes[i, 0].set_ylabel(label)
    style.legend(figure, gradients, marked=True)
    first = rows.iloc[0]
    style.footnote(
        figure,
        f"{style.network_name(network)}, {style.method_name(method)}, one training step on "
        f"{first['device']}; medians and quartiles of interleaved steps, put right by a fixed step "
        f"that took turns with them, as the machine's speed moved by {drift(rows) - 1:.0%} from "
        f"point to point; {style.how_counted(first['device'])}. Grey: a linear and, where there "
        "are two, a quadratic law.",
    )
    return style.save(figure, folder, distinct_name("growth", network, method))


def held_fixed(rows: pd.DataFrame) -> str:
    """What is the same all along a sweep, in words."""
    n_steps, sizes = rows["n_steps"].unique(), rows["batch_size"].unique()
    said = [f"Nt = {n_steps[0]}"] if len(n_steps) == 1 else []
    return ", ".join([*said, f"{sizes[0]} images"] if len(sizes) == 1 else said)


def _curve(
    axis: Axes, rows: pd.DataFrame, column: str, quantity: str, gradient: str, gradients: list[str]
) -> None:
    own = rows[rows["gradient"] == gradient].sort_values(column)
    value, look = own[quantity], style.marked_curve(gradient, gradients)
    spread = None
    if quantity == "milliseconds":
        spread = [value - own["fastest"], own["slowest"] - value]
    axis.errorbar(own[column], value, yerr=spread, elinewidth=0.7, **look)
    axis.set_xscale("log")
    axis.set_yscale("log")


def _guides(
    axis: Axes, x: "pd.Series[float]", y: "pd.Series[float]", powers: tuple[int, ...]
) -> None:
    """Lines of these slopes behind the curves, from the lower left."""
    axis.set_ylim(y.min() / 1.7, y.max() * 1.4)
    ends = np.array([x.min(), x.max()], dtype=float)
    for power in powers:
        guide = y.min() / 1.35 * (ends / ends[0]) ** power
        axis.plot(ends, guide, color="0.8", linewidth=0.8, zorder=1, scalex=False, scaley=False)
