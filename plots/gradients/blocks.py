"""Gradient error block by block, in the parameters and in the block's input."""

from pathlib import Path

import pandas as pd

from plots import drawing, labels, series
from plots.gradients.errors import ROUNDING, about_other_schemes, unmodified_networks

PARTS = {"block": "in its parameters", "z0 of block": "in its input z(0)"}


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each scheme, in float64 with initial weights at the Nt nearest to two: a row for
    each kind of gradient, a column for each network with more than one ODE block."""
    rows = unmodified_networks(rows)
    rows = rows[(rows["precision"] == "float64") & (rows["weights"] == "initial")]
    parts = rows["part"].str.extract(r"^(z0 of block|block) (\d+)$")
    rows = rows.assign(kind=parts[0], block=parts[1].astype(float)).dropna(subset=["kind"])
    rows = rows[rows.groupby("network")["block"].transform("max") > 1]
    if rows.empty:
        return []
    n_steps = min(rows["n_steps"].unique(), key=lambda steps: abs(steps - 2))
    files: list[Path] = []
    for method, part in rows[rows["n_steps"] == n_steps].groupby("method", sort=False):
        inexact = part[part.groupby("gradient")["error"].transform("max") > ROUNDING["float64"]]
        exact = part.drop(inexact.index)["gradient"].unique()
        if inexact.empty:
            continue
        groups = series.coinciding(inexact, ["error"], ["network", "kind", "block"])
        for suffix, page in series.pages(groups):
            name = f"gradient_blocks-{method}-nt{n_steps}{suffix}"
            files += _draw(inexact, page, list(exact), folder, name)
    return files


def _draw(
    rows: pd.DataFrame, groups: list[series.Group], exact: list[str], folder: Path, name: str
) -> list[Path]:
    networks = list(rows["network"].unique())
    figure, axes = drawing.subplots(2, len(networks), height=4.0, sharey=True, sharex="col")
    for i, (kind, words) in enumerate(PARTS.items()):
        for j, network in enumerate(networks):
            axis = axes[i, j]
            chosen = rows[(rows["network"] == network) & (rows["kind"] == kind)]
            series.plot(axis, chosen, "block", "error", groups, log="y")
            axis.set_xticks(sorted(chosen["block"].unique()))
            axes[0, j].set_title(labels.network(network))
            axes[-1, j].set_xlabel("ODE block, from the input")
        axes[i, 0].set_ylabel(f"gradient error\n{words}")
    scheme = labels.scheme(rows["method"].iloc[0], rows["n_steps"].iloc[0])
    figure.suptitle(f"{scheme}, initial weights, float64", fontsize=9)
    drawing.legend(figure, series.entries(groups))
    names = "; ".join(map(labels.gradient, exact))
    drawing.caption(
        figure,
        "Relative error of the gradient, block by block; generated images, training mode."
        + (f" Not drawn, no error beyond rounding: {names}." if exact else "")
        + about_other_schemes(groups),
    )
    return drawing.save(figure, folder, name)
