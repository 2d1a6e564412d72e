"""Curves of training runs against the epoch: the mean of the seeds, each seed, and their range."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from plots import labels, series, style
from plots.drawing import Entry
from plots.training.recorded import Recorded

MOST_MARKERS = 20
"""A curve of at most this number of epochs has a marker at each."""


def plot(
    axis: Axes,
    epochs: pd.DataFrame,
    quantity: str,
    groups: Sequence[series.Group],
    *,
    log: str = "",
) -> None:
    """Draw a quantity's mean over the seeds; of several seeds also each, and their range."""
    leaders = [group[0] for group in groups]
    frames = []
    for gradient in leaders:
        own = epochs[(epochs["gradient"] == gradient) & epochs[quantity].notna()]
        if own.empty:
            continue
        seeds = own.groupby("epoch")[quantity]
        means = pd.DataFrame({"value": _smoothed(seeds.mean())}).reset_index()
        frames.append(means.assign(gradient=gradient))
        if own["seed"].nunique() > 1 or _window(own["epoch"].nunique()) > 1:
            colour = style.colour(gradient, leaders)
            for _, run in own.groupby("run"):
                axis.plot(run["epoch"], run[quantity], color=colour, alpha=0.3, linewidth=0.7)
        if own["seed"].nunique() > 1:
            low, high = _smoothed(seeds.min()), _smoothed(seeds.max())
            axis.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)
    if frames:
        means = pd.concat(frames)
        look = _look(means["epoch"].nunique())
        series.plot(axis, means, "epoch", "value", groups, log=log, **look)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def groups(recorded: Recorded, quantities: Sequence[str]) -> list[series.Group]:
    """Group the gradient methods whose runs have the same values in every network and epoch."""
    keys = ["network", "seed", "epoch"]
    seen = recorded.epochs.dropna(subset=[*quantities], how="all")
    found = series.coinciding(seen, quantities, keys, relative=0) if len(seen) else []
    drawn = {gradient for group in found for gradient in group}
    return [*found, *((g,) for g in recorded.gradients() if g not in drawn)]


def entries(recorded: Recorded, groups: Sequence[series.Group]) -> list[Entry]:
    """The legend of these curves."""
    most = recorded.epochs.groupby("run").size().max() if len(recorded.epochs) else 0
    found = series.entries(groups, **_look(most))
    if recorded.runs["seed"].nunique() > 1:
        band = Patch(color="0.5", alpha=0.3, linewidth=0)
        thin = Line2D([], [], color="0.5", alpha=0.5, linewidth=0.7)
        return [*found, (thin, "one seed (thick: mean)"), (band, "range of the seeds")]
    if _window(most) > 1:
        thin = Line2D([], [], color="0.5", alpha=0.5, linewidth=0.7)
        return [*found, (thin, "each epoch (thick: moving average)")]
    return found


def mark_lost(axis: Axes, runs: pd.DataFrame) -> None:
    """Name the runs without a curve to the end, and their status."""
    lost = runs[runs["status"] != "ok"].groupby(["gradient", "status"]).size()
    names = [
        f"{labels.short_gradient(gradient)}: {count} {status}".replace("\n", " ")
        for (gradient, status), count in lost.items()
    ]
    if names:
        axis.text(0.03, 0.97, "\n".join(names), transform=axis.transAxes, va="top", fontsize=6.5)


def _look(n_epochs: int) -> dict[str, Any]:
    look: dict[str, Any] = {"linewidth": 1.4}
    return look | ({"markersize": 3.0} if n_epochs <= MOST_MARKERS else {"marker": None})


def _smoothed(values: pd.Series) -> pd.Series:
    """A centred moving average over a fortieth of the run; a short run stays as it is."""
    return values.rolling(_window(len(values)), center=True, min_periods=1).mean()


def _window(n_epochs: int) -> int:
    return n_epochs // 40 | 1
