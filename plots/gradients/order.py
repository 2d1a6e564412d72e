"""Gradient error against the number of steps, with the observed order of convergence."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from plots import curves, drawing, style
from plots.gradients.errors import (
    about_other_schemes,
    observed_order,
    unmodified_networks,
    with_floor,
)

FLOOR = 1e-7
"""Where "exact" stands on the axis."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each precision and kind of weights: a row for each scheme, a column for each
    network. A method whose error is rounding or zero is drawn at the bottom, at "exact"."""
    rows = unmodified_networks(rows)
    rows = rows[rows["part"] == "all parameters"]
    return [
        file
        for _, part in rows.groupby(["precision", "weights"], sort=False)
        for file in draw_against_steps(
            part,
            folder,
            "gradient_order",
            label="gradient error",
            meaning="Relative error of the gradient in all parameters against backprop with the "
            "same scheme; generated images, training mode. Order: fitted to node's four largest "
            "Nt.",
            has_order=True,
        )
    ]


def draw_against_steps(
    rows: pd.DataFrame, folder: Path, name: str, *, label: str, meaning: str, has_order: bool
) -> list[Path]:
    """Draw the errors of one precision and kind of weights.

    label: of the vertical axis. meaning: its explanation in the caption. has_order: whether node's
    order of convergence is written into the panels.
    """
    rows = rows[rows["gradient"] != "backprop"]
    if rows.empty:
        return []
    weights, precision = rows[["weights", "precision"]].iloc[0]

    def finish(axis: Axes, chosen: pd.DataFrame) -> None:
        order = observed_order(chosen[chosen["gradient"] == "node"])
        if has_order and order is not None:
            axis.text(0.97, 0.16, f"node: order {order:.1f}", transform=axis.transAxes,
                      ha="right", fontsize=6.5, color=style.colour("node"))  # fmt: skip
        drawing.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
        powers = [f"$10^{{{power}}}$" for power in (-6, -4, -2)]
        axis.set_yticks([FLOOR, 1e-6, 1e-4, 1e-2, 1], ["exact", *powers, "1"])
        axis.minorticks_off()
        axis.set_ylim(FLOOR / 3, 10)

    return curves.draw(
        with_floor(rows, precision, FLOOR),
        folder,
        f"{name}-{weights}-{precision}",
        x=("n_steps", "steps per block, Nt"),
        y=("shown", label),
        finish=finish,
        title=f"{weights} weights, {precision}",
        caption=meaning + about_other_schemes(rows),
        sharex=True,
        sharey=True,
    )
