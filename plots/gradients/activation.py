"""The continuous adjoint's error against the activation of the right-hand side."""

from pathlib import Path

import pandas as pd

from plots import drawing, labels
from plots.gradients.errors import observed_order

_LOOKS = {
    "relu": ("#D55E00", "solid"),
    "leaky_relu": ("#E69F00", (0, (5, 1))),
    "softplus": ("#009E73", (0, (3, 1, 1, 1))),
    "tanh": ("#0072B2", (0, (1, 1))),
    "none": ("#000000", (0, (8, 2))),
}
GRADIENT = "node"


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each network; the legend of each panel has the observed
    orders."""
    rows = rows[(rows["part"] == "all parameters") & (rows["gradient"] == GRADIENT)]
    rows = rows[(rows["precision"] == "float64") & (rows["weights"] == "initial")]
    rows = rows[rows["scale"] == 1]
    rows = rows[rows.groupby("method")["activation"].transform("nunique") > 1]
    if rows.empty:
        return []
    figure, panels = drawing.grid(
        rows,
        x="steps per block, Nt",
        y=f"gradient error of {GRADIENT}",
        row_height=1.9,
        sharex=True,
        sharey=True,
    )
    for axis, chosen in panels:
        for activation, (colour, line) in _LOOKS.items():
            own = chosen[chosen["activation"] == activation].sort_values("n_steps")
            if own.empty:
                continue
            order = observed_order(own)
            words = "" if order is None else f", order {order:.1f}"
            axis.loglog(
                own["n_steps"],
                own["error"],
                color=colour,
                linestyle=line,
                marker="o",
                markersize=2,
                linewidth=1.1,
                label=labels.activation(activation) + words,
            )
        axis.legend(fontsize=5.5, loc="lower left", handlelength=2.2, labelspacing=0.2)
        drawing.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
    drawing.caption(
        figure,
        "Relative error of node's gradient in all parameters, float64, initial weights, generated "
        "images; the ReLUs of the right-hand sides are replaced. Order: fitted to the four "
        "largest Nt.",
    )
    return drawing.save(figure, folder, "gradient_activation")
