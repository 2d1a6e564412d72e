"""Gradient error against the Lipschitz constant of the right-hand sides."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from plots import curves, drawing
from plots.gradients.errors import with_floor

FLOOR = 1e-5
"""Where "exact" stands on the axis."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each network, at the smallest Nt that was scaled."""
    rows = rows[(rows["part"] == "all parameters") & (rows["activation"] == "relu")]
    rows = rows[(rows["precision"] == "float64") & (rows["weights"] == "initial")]
    rows = rows[rows.groupby(["method", "n_steps"])["scale"].transform("nunique") > 1]
    rows = rows[(rows["n_steps"] == rows["n_steps"].min()) & (rows["gradient"] != "backprop")]
    rows = rows[rows.groupby("gradient")["scale"].transform("nunique") > 1]
    if rows.empty:
        return []
    scales = sorted(rows["scale"].unique())
    return curves.draw(
        with_floor(rows, "float64", FLOOR),
        folder,
        "gradient_lipschitz",
        x=("lipschitz", "‖∂f/∂z‖₂"),
        y=("shown", "gradient error"),
        finish=_finish,
        caption="Relative error of the gradient in all parameters against the largest Lipschitz "
        f"constant ‖∂f/∂z‖₂ of the network's right-hand sides, multiplied by {scales[0]:g} to "
        f"{scales[-1]:g}; Nt = {int(rows['n_steps'].iloc[0])}, float64, initial weights, generated "
        "images.",
        sharex="col",
        sharey=True,
    )


def _finish(axis: Axes, rows: pd.DataFrame) -> None:
    drawing.ticks(axis.xaxis, drawing.one_two_five(rows["lipschitz"]))
    values = [1e-4, 1e-3, 1e-2, 1e-1, 1]
    axis.set_yticks([FLOOR, *values], ["exact", *(f"{value:g}" for value in values)])
    axis.minorticks_off()
