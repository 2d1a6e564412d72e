"""The continuous adjoint's error against the activation of the right-hand side."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from plots import style
from plots.gradient_order import observed_order
from plots.recorded import METHOD_NAMES

NAMES = {
    "relu": "ReLU",
    "leaky_relu": "Leaky ReLU",
    "softplus": "Softplus",
    "tanh": "tanh",
    "none": "none",
}
_COLOURS = ("#D55E00", "#E69F00", "#009E73", "#0072B2", "#000000")
_LINES = ("solid", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
GRADIENT = "node"


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each network; the observed orders stand in the legend
    of each panel."""
    rows = rows[(rows["part"] == "all parameters") & (rows["gradient"] == GRADIENT)]
    rows = rows[(rows["precision"] == "float64") & (rows["weights"] == "initial")]
    rows = rows[rows["scale"] == 1]
    methods = [
        method
        for method, part in rows.groupby("method", sort=False)
        if part["activation"].nunique() > 1
    ]
    if not methods:
        return []
    style.begin()
    networks = list(rows["network"].unique())
    figure, axes = plt.subplots(
        len(methods),
        len(networks),
        figsize=(style.width(len(networks)), 1.0 + 1.9 * len(methods)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for i, method in enumerate(methods):
        for j, network in enumerate(networks):
            axis = axes[i, j]
            chosen = rows[(rows["network"] == network) & (rows["method"] == method)]
            for activation, colour, line in zip(NAMES, _COLOURS, _LINES, strict=True):
                own = chosen[chosen["activation"] == activation].sort_values("n_steps")
                if own.empty:
                    continue
                order = observed_order(own)
                axis.loglog(
                    own["n_steps"],
                    own["error"],
                    color=colour,
                    linestyle=line,
                    marker="o",
                    markersize=2,
                    linewidth=1.1,
                    label=NAMES[activation] + ("" if order is None else f" {order:.1f}"),
                )
            axis.legend(fontsize=5.5, loc="lower left", handlelength=2.2, labelspacing=0.2)
            style.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
            if i == 0:
                axis.set_title(style.network_name(network))
            if i == len(methods) - 1:
                axis.set_xlabel("steps per block, Nt")
        axes[i, 0].set_ylabel(f"{METHOD_NAMES.get(method, method)}\ngradient error of node")
    style.footnote(
        figure,
        "Relative error of node's gradient in all parameters, float64, initial weights, generated "
        "images; the ReLUs of the right-hand sides replaced. Numbers: observed order, fitted to "
        "the four largest Nt.",
    )
    return style.save(figure, folder, "gradient_activation")
