"""Training loss and test accuracy against epoch, as in the ANODE paper's Figures 3 to 5."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from plots import style
from plots.recorded import Recorded

_ROWS = (("train_loss", "training loss"), ("test_accuracy", "test accuracy"))


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each method and number of steps, a column for each network."""
    return [
        file
        for panel in recorded.panels()
        for file in _draw(recorded.of(panel), panel.title, folder, f"training-{panel.slug}")
    ]


def _draw(recorded: Recorded, title: str, folder: Path, name: str) -> list[Path]:
    style.begin()
    networks = recorded.networks()
    figure, axes = plt.subplots(
        len(_ROWS),
        len(networks),
        figsize=(style.width(len(networks)), 3.6),
        sharex="col",
        squeeze=False,
        layout="constrained",
    )
    gradients = recorded.gradients()
    for column, network in enumerate(networks):
        epochs = recorded.epochs[recorded.epochs["network"] == network]
        for row, (quantity, label) in enumerate(_ROWS):
            axis = axes[row, column]
            for gradient in gradients:
                of_gradient = epochs[epochs["gradient"] == gradient]
                if len(of_gradient):
                    _curve(axis, of_gradient, quantity, gradient, gradients)
            if column == 0:
                axis.set_ylabel(label)
        if _spans_decades(epochs["train_loss"]):
            axes[0, column].set_yscale("log")
        axes[0, column].set_title(style.network_name(network))
        axes[1, column].yaxis.set_major_formatter(PercentFormatter(1))
        axes[1, column].set_xlabel("epoch")
        axes[1, column].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _mark_lost(axes[1, column], recorded.runs[recorded.runs["network"] == network])
    figure.suptitle(title, fontsize=9)
    style.legend(figure, gradients)
    style.footnote(figure, recorded.protocol())
    return style.save(figure, folder, name)


def _curve(
    axis: Any, epochs: pd.DataFrame, quantity: str, gradient: str, gradients: list[str]
) -> None:
    """The raw values in a light tint, the smoothed mean over them, the seeds' range as a band."""
    colour = style.colour(gradient, gradients)
    for _, run in epochs.groupby("run"):
        axis.plot(run["epoch"], run[quantity], color=colour, alpha=0.25, linewidth=0.7)
    seeds = epochs.groupby("epoch")[quantity]
    mean = smoothed(seeds.mean())
    axis.plot(mean.index, mean, color=colour, linestyle=style.line(gradient), linewidth=1.4)
    if epochs["seed"].nunique() > 1:
        low, high = smoothed(seeds.min()), smoothed(seeds.max())
        axis.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)


def smoothed(values: pd.Series) -> pd.Series:
    """A centred moving average over a fortieth of the run; a short run stays as it is."""
    window = len(values) // 40 | 1
    return values.rolling(window, center=True, min_periods=1).mean()


def _spans_decades(losses: pd.Series) -> bool:
    return len(losses) > 0 and losses.min() > 0 and losses.max() / losses.min() > 10


def _mark_lost(axis: Any, runs: pd.DataFrame) -> None:
    """Say which runs have no curve to the end, and why."""
    lost = runs[runs["status"] != "ok"].groupby(["gradient", "status"]).size()
    if len(lost):
        said = [f"{style.short_name(g)}: {n} {s}".replace("\n", " ") for (g, s), n in lost.items()]
        axis.text(0.03, 0.97, "\n".join(said), transform=axis.transAxes, va="top", fontsize=6.5)
