"""Memory and time of a training step by gradient method."""

from pathlib import Path
from typing import Any

import pandas as pd

from plots import style
from plots.conditions import not_the_same_environments
from plots.recorded import Recorded

_ROWS = (
    ("peak_memory", "peak memory (MiB)", 1 / 2**20),
    ("seconds_per_step", "time per step (ms)", 1e3),
)
_MOST_LABELS = 3
"""So many bars of a panel have their names below them; more are told apart by a legend."""


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each method and number of steps: memory above, time below."""
    return [
        file
        for panel in recorded.panels()
        for file in _draw(recorded.of(panel), panel.title, folder, f"cost-{panel.slug}")
    ]


def _draw(recorded: Recorded, title: str, folder: Path, name: str) -> list[Path]:
    measured = recorded.measurements
    if measured.empty:
        return []
    order = recorded.gradients()
    networks = [n for n in recorded.networks() if n in set(measured["network"])]
    are_labelled = len(order) <= _MOST_LABELS
    figure, axes = style.subplots(
        len(_ROWS),
        len(networks),
        figsize=(style.width(len(networks)), 3.6),
    )
    for row, (quantity, label, scale) in enumerate(_ROWS):
        for column, network in enumerate(networks):
            axis = axes[row, column]
            of_network = measured[
                (measured["network"] == network) & (measured["quantity"] == quantity)
            ]
            gradients = [g for g in order if g in set(of_network["gradient"])]
            bars = of_network.set_index("gradient").loc[gradients]
            _bars(axis, bars, gradients, scale, are_labelled=are_labelled)
            if column == 0:
                axis.set_ylabel(label)
            if row == 0:
                axis.set_title(style.network_name(network))
    first = measured.iloc[0]
    figure.suptitle(title, fontsize=9)
    if not are_labelled:
        style.legend(figure, order, filled=True)
    style.footnote(
        figure,
        f"One training step of {int(first['batch_size'])} images; whiskers: quartiles of steps "
        "interleaved with the others of a network that one command timed. A baseline evaluates the "
        "right-hand side of each block once. "
        f"{recorded.protocol()}{not_the_same_environments(recorded.measured_in)}",
    )
    return style.save(figure, folder, name)


def _bars(
    axis: Any, measured: pd.DataFrame, gradients: list[str], scale: float, *, are_labelled: bool
) -> None:
    values = measured["value"] * scale
    spread = [
        (measured["value"] - measured["low"]) * scale,
        (measured["high"] - measured["value"]) * scale,
    ]
    axis.bar(
        range(len(gradients)),
        values,
        yerr=spread if float(sum(map(sum, spread))) > 0 else None,
        error_kw={"linewidth": 0.8},
        color=[style.colour(gradient, gradients) for gradient in gradients],
        width=0.65,
    )
    for position, value in enumerate(values):
        axis.annotate(
            f"{value:.3g}",
            (position, 0 if are_labelled else measured["high"].iloc[position] * scale),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            rotation="horizontal" if are_labelled else "vertical",
            fontsize=6.5,
            color="white" if are_labelled else "black",
            fontweight="bold",
        )
    if are_labelled:
        axis.set_xticks(range(len(gradients)), [style.short_name(g) for g in gradients])
    else:
        axis.set_xticks([])
        axis.margins(y=0.25)
    axis.grid(False, axis="x")
