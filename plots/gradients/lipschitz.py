"""Gradient error against the Lipschitz constant of the right-hand sides."""

from pathlib import Path

import pandas as pd

from plots import drawing, series
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
    rows = with_floor(rows, "float64", FLOOR)
    groups = series.coinciding(rows, ["shown"], ["method", "network", "scale"])
    return [
        file
        for suffix, page in series.pages(groups)
        for file in _draw(rows, page, folder, f"gradient_lipschitz{suffix}")
    ]


def _draw(rows: pd.DataFrame, groups: list[series.Group], folder: Path, name: str) -> list[Path]:
    figure, panels = drawing.grid(rows, x="‖∂f/∂z‖₂", y="gradient error", sharex="col", sharey=True)
    for axis, chosen in panels:
        series.plot(axis, chosen, "lipschitz", "shown", groups)
        drawing.ticks(axis.xaxis, drawing.one_two_five(chosen["lipschitz"]))
        values = [1e-4, 1e-3, 1e-2, 1e-1, 1]
        axis.set_yticks([FLOOR, *values], ["exact", *(f"{value:g}" for value in values)])
        axis.minorticks_off()
    drawing.legend(figure, series.entries(groups))
    scales = sorted(rows["scale"].unique())
    drawing.caption(
        figure,
        "Relative error of the gradient in all parameters against the largest Lipschitz constant "
        f"‖∂f/∂z‖₂ of the network's right-hand sides, multiplied by {scales[0]:g} to "
        f"{scales[-1]:g}; Nt = {int(rows['n_steps'].iloc[0])}, float64, initial weights, generated "
        "images.",
    )
    return drawing.save(figure, folder, name)
