"""Gradient error block by block, in the parameters and in the block's input."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from plots import style
from plots.gradients.order import EXACT, own_networks

PARTS = {"block": "in its parameters", "z0 of block": "in its input z(0)"}


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """For each scheme a figure in double precision, at the Nt nearest to two and at
    initialisation: a row for each kind of gradient, a column for each network with more than one
    ODE block."""
    rows = own_networks(rows)
    rows = rows[(rows["precision"] == "float64") & (rows["weights"] == "initial")]
    parts = rows["part"].str.extract(r"^(z0 of block|block) (\d+)$")
    rows = rows.assign(kind=parts[0], block=parts[1].astype(float)).dropna(subset=["kind"])
    several = rows.groupby("network")["block"].transform("max") > 1
    rows = rows[several]
    if rows.empty:
        return []
    n_steps = min(rows["n_steps"].unique(), key=lambda steps: abs(steps - 2))
    rows = rows[rows["n_steps"] == n_steps]
    return [
        file
        for method, part in rows.groupby("method", sort=False)
        for file in _draw(part, str(method), int(n_steps), folder)
    ]


def _draw(rows: pd.DataFrame, method: str, n_steps: int, folder: Path) -> list[Path]:
    style.begin()
    networks = list(rows["network"].unique())
    inexact = rows.groupby("gradient")["error"].max() > EXACT["float64"]
    gradients = [g for g in rows["gradient"].unique() if inexact[g]]
    if not gradients:
        return []
    figure, axes = plt.subplots(
        2,
        len(networks),
        figsize=(style.width(len(networks)), 4.0),
        sharey=True,
        sharex="col",
        squeeze=False,
        layout="constrained",
    )
    for i, (kind, words) in enumerate(PARTS.items()):
        for j, network in enumerate(networks):
            axis = axes[i, j]
            chosen = rows[(rows["network"] == network) & (rows["kind"] == kind)]
            for gradient in gradients:
                own = chosen[chosen["gradient"] == gradient].sort_values("block")
                axis.semilogy(own["block"], own["error"], **style.curve(gradient, gradients))
            axis.set_xticks(sorted(chosen["block"].unique()))
            if i == 0:
                axis.set_title(style.network_name(network))
            else:
                axis.set_xlabel("ODE block, from the input")
        axes[i, 0].set_ylabel(f"gradient error\n{words}")
    figure.suptitle(
        f"{style.method_name(method)}, Nt = {n_steps}, initial weights, float64", fontsize=9
    )
    style.legend(figure, gradients)
    exact = [style.gradient_name(g) for g in rows["gradient"].unique() if g not in gradients]
    style.footnote(
        figure,
        "Relative error of the gradient, block by block; generated images, training mode. "
        + (f"No error beyond rounding, not drawn: {'; '.join(exact)}." if exact else "")
        + style.other_schemes(gradients),
    )
    return style.save(figure, folder, f"gradient_blocks-{method}-nt{n_steps}")
