"""Gradient error against the number of steps, with the observed order of convergence."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from plots import style
from plots.panels import grid

EXACT = {"float64": 1e-12, "float32": 1e-6}
"""Errors below this are rounding."""


@dataclass(frozen=True)
class Quantity:
    """What stands on the vertical axis: a part of GradientRow, in words, and its small print."""

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
    """For each precision and kind of weights a figure: a row for each scheme, a column for each
    network. A method whose error is rounding or nothing stands at the bottom, labelled "exact"."""
    return draw_quantity(own_networks(rows), ERROR, folder)


def draw_quantity(rows: pd.DataFrame, quantity: Quantity, folder: Path) -> list[Path]:
    """The same for another quantity."""
    return [
        file
        for (precision, weights), part in rows[rows["part"] == quantity.part].groupby(
            ["precision", "weights"], sort=False
        )
        for file in _draw(part, quantity, str(precision), str(weights), folder)
    ]


def _draw(
    rows: pd.DataFrame, quantity: Quantity, precision: str, weights: str, folder: Path
) -> list[Path]:
    style.begin()
    gradients = [g for g in rows["gradient"].unique() if g != "backprop"]
    figure, panels = grid(rows, x="steps per block, Nt", y=quantity.label, sharex=True, sharey=True)
    exact_below = EXACT[precision]
    floor = 1e-7
    for axis, chosen in panels:
        for gradient in gradients:
            of_gradient = chosen[chosen["gradient"] == gradient].sort_values("n_steps")
            error = of_gradient["error"].where(of_gradient["error"] > exact_below, floor)
            axis.loglog(
                of_gradient["n_steps"],
                error,
                **style.curve(gradient, gradients),
            )
        node = chosen[chosen["gradient"] == "node"]
        order = observed_order(node)
        if quantity.has_order and order is not None:
            axis.text(0.04, 0.16, f"node: order {order:.1f}", transform=axis.transAxes,
                      fontsize=6.5, color=style.colour("node"))  # fmt: skip
        ticks = sorted(rows["n_steps"].unique())
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_yticks(
            [floor, 1e-6, 1e-4, 1e-2, 1],
            ["exact", "$10^{-6}$", "$10^{-4}$", "$10^{-2}$", "1"],
        )
        axis.minorticks_off()
        axis.set_ylim(floor / 3, 10)
    figure.suptitle(f"{weights} weights, {precision}", fontsize=9)
    style.legend(figure, gradients)
    fitted = " Order: fitted to node's four largest Nt." if quantity.has_order else ""
    style.footnote(
        figure,
        f"{quantity.meaning}; generated images, training mode.{fitted}"
        f"{style.other_schemes(gradients)}",
    )
    return style.save(figure, folder, f"{quantity.name}-{weights}-{precision}")


def own_networks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the networks as they are: with their own activation, not scaled."""
    return rows[(rows["activation"] == "relu") & (rows["scale"] == 1)]


def observed_order(rows: pd.DataFrame) -> float | None:
    """-d log(error) / d log(Nt) over the four largest Nt that have errors; None below three."""
    last = rows[rows["error"] > EXACT["float64"]].sort_values("n_steps").tail(4)
    if len(last) < 3:
        return None
    return float(-np.polyfit(np.log(last["n_steps"]), np.log(last["error"]), 1)[0])
