"""Gradient error against the number of steps, with the observed order of convergence."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from plots import drawing, series, style
from plots.gradients.errors import (
    about_other_schemes,
    observed_order,
    unmodified_networks,
    with_floor,
)

FLOOR = 1e-7
"""Where "exact" stands on the axis."""


@dataclass(frozen=True)
class Quantity:
    """A vertical axis: the part of GradientRow, the axis's label, its explanation in the caption,
    and the figure's name."""

    part: str
    label: str
    meaning: str
    name: str
    has_order: bool


ERROR = Quantity(
    "all parameters",
    "gradient error",
    "Relative error of the gradient in all parameters against backprop with the same scheme",
    "gradient_order",
    has_order=True,
)


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each precision and kind of weights: a row for each scheme, a column for each
    network. A method whose error is rounding or zero is drawn at the bottom, at "exact"."""
    return draw_quantity(unmodified_networks(rows), ERROR, folder)


def draw_quantity(rows: pd.DataFrame, quantity: Quantity, folder: Path) -> list[Path]:
    """The same figures for another quantity."""
    rows = rows[(rows["part"] == quantity.part) & (rows["gradient"] != "backprop")]
    files: list[Path] = []
    for (precision, weights), own in rows.groupby(["precision", "weights"], sort=False):
        part = with_floor(own, str(precision), FLOOR)
        groups = series.coinciding(part, ["shown"], ["method", "network", "n_steps"])
        for suffix, page in series.pages(groups):
            name = f"{quantity.name}-{weights}-{precision}{suffix}"
            files += _draw(part, page, quantity, folder, name)
    return files


def _draw(
    rows: pd.DataFrame, groups: list[series.Group], quantity: Quantity, folder: Path, name: str
) -> list[Path]:
    figure, panels = drawing.grid(
        rows, x="steps per block, Nt", y=quantity.label, sharex=True, sharey=True
    )
    for axis, chosen in panels:
        series.plot(axis, chosen, "n_steps", "shown", groups)
        order = observed_order(chosen[chosen["gradient"] == "node"])
        if quantity.has_order and order is not None:
            axis.text(0.04, 0.16, f"node: order {order:.1f}", transform=axis.transAxes,
                      fontsize=6.5, color=style.colour("node"))  # fmt: skip
        drawing.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
        axis.set_yticks(
            [FLOOR, 1e-6, 1e-4, 1e-2, 1], ["exact", *(f"$10^{{{p}}}$" for p in (-6, -4, -2)), "1"]
        )
        axis.minorticks_off()
        axis.set_ylim(FLOOR / 3, 10)
    first = rows.iloc[0]
    figure.suptitle(f"{first['weights']} weights, {first['precision']}", fontsize=9)
    drawing.legend(figure, series.entries(groups))
    fitted = " Order: fitted to node's four largest Nt." if quantity.has_order else ""
    drawing.caption(
        figure,
        f"{quantity.meaning}; generated images, training mode.{fitted}"
        f"{about_other_schemes(groups)}",
    )
    return drawing.save(figure, folder, name)
