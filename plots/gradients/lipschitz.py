"""Gradient error against the Lipschitz constant of the right-hand sides."""

from pathlib import Path

import pandas as pd

from plots import style
from plots.gradients.order import EXACT
from plots.panels import grid


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each network, at the smallest Nt that was scaled."""
    rows = rows[(rows["part"] == "all parameters") & (rows["activation"] == "relu")]
    rows = rows[(rows["precision"] == "float64") & (rows["weights"] == "initial")]
    counts = rows.groupby(["method", "n_steps"])["scale"].transform("nunique")
    rows = rows[counts > 1]
    if rows.empty:
        return []
    rows = rows[rows["n_steps"] == rows["n_steps"].min()]
    scaled = rows.groupby("gradient")["scale"].nunique() > 1
    gradients = [g for g in rows["gradient"].unique() if scaled[g] and g != "backprop"]
    style.begin()
    figure, panels = grid(rows, x="‖∂f/∂z‖₂", y="gradient error", sharey=True)
    for axis, chosen in panels:
        for gradient in gradients:
            own = chosen[chosen["gradient"] == gradient].sort_values("lipschitz")
            shown = own["error"].where(own["error"] > EXACT["float64"], FLOOR)
            axis.loglog(own["lipschitz"], shown, **style.curve(gradient, gradients))
        style.ticks(axis.xaxis, style.one_two_five(chosen["lipschitz"]))
        axis.set_yticks(
            [FLOOR, 1e-4, 1e-3, 1e-2, 1e-1, 1], ["exact", "0.0001", "0.001", "0.01", "0.1", "1"]
        )
        axis.minorticks_off()
    steps = int(rows["n_steps"].iloc[0])
    style.legend(figure, gradients)
    style.footnote(
        figure,
        "Relative error of the gradient in all parameters against the largest Lipschitz constant "
        f"‖∂f/∂z‖₂ of the network's right-hand sides, which are multiplied by 1/8 … 4; Nt = "
        f"{steps}, float64, initial weights, generated images.",
    )
    return style.save(figure, folder, "gradient_lipschitz")


FLOOR = 1e-5
