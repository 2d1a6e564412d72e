"""Gradient error block by block, in the parameters and in the block's input."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from plots import curves, labels
from plots.gradients.errors import ROUNDING, about_other_schemes, unmodified_networks

PARTS = {
    "block": "gradient error\nin its parameters",
    "z0 of block": "gradient error\nin its input",
}


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
        if inexact.empty:
            continue
        exact = "; ".join(map(labels.gradient, part.drop(inexact.index)["gradient"].unique()))
        files += curves.draw(
            inexact,
            folder,
            f"gradient_blocks-{method}-nt{n_steps}",
            x=("block", "ODE block, from the input"),
            y=("error", ""),
            down=("kind", PARTS.__getitem__),
            log="y",
            finish=_finish,
            title=f"{labels.scheme(str(method), n_steps)}, initial weights, float64",
            caption="Relative error of the gradient, block by block; generated images, training "
            f"mode. Not drawn, no error beyond rounding: {exact}.{about_other_schemes(inexact)}",
            sharey=True,
            sharex="col",
        )
    return files


def _finish(axis: Axes, rows: pd.DataFrame) -> None:
    axis.set_xticks(sorted(rows["block"].unique()))
