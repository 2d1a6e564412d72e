"""Reversibility error against the number of steps, with the paper's claims."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from plots import drawing, labels
from plots.reversibility.claims import CLAIMS
from plots.reversibility.errors import median_over_seeds

CEILING, FLOOR = 1e3, 1e-16
_LOOKS = {
    "euler": ("#D55E00", "o"),
    "rk2": ("#E69F00", "s"),
    "rk4": ("#0072B2", "^"),
    "rk4_38": ("#56B4E9", "X"),
    "reversible": ("#CC79A7", "D"),
    "rk45": ("#009E73", "v"),
    "rk45_relative": ("#882255", "X"),
}
"""Scheme → colour (Okabe & Ito 2008; the last of Tol's muted scheme) and marker."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """reversal_steps: a panel for each problem, a line for each scheme, float64.

    Errors above 1000 or infinite are drawn at the top, those below 1e-16 at the bottom. A star is
    a claim of the paper.
    """
    rows = rows[rows["precision"] == "float64"]
    rows = rows[(rows["problem"] != "convolution") | (rows["activation"] == "relu")]
    problems = [name for name in labels.PROBLEMS if (rows["problem"] == name).any()]
    columns = min(3, len(problems))
    lines = -(-len(problems) // columns)
    figure, axes = drawing.subplots(lines, columns, height=0.4 + 1.9 * lines, sharey=True)
    for axis in axes.flat[len(problems) :]:
        axis.set_visible(False)
    for problem, axis in zip(problems, axes.flat, strict=False):
        _panel(axis, rows[rows["problem"] == problem], problem)
    for axis in axes[:, 0]:
        axis.set_ylabel("reversibility error ρ")
    for axis in axes.flat[max(0, len(problems) - columns) : len(problems)]:
        axis.set_xlabel("steps")
    drawn = rows[rows["problem"].isin(problems)]["scheme"].unique()
    star = Line2D([], [], color="black", marker="*", markersize=8, linestyle="none")
    entries = [(Line2D([], [], **_look(s), markersize=4), labels.solver(s)) for s in drawn]
    drawing.legend(figure, [*entries, (star, "claimed by the paper")])
    images = rows[rows["data"] != "none"]
    image = "" if images.empty else (
        f" Image: {images.iloc[0]['data']}, fingerprint {images.iloc[0]['fingerprint']}."
    )  # fmt: skip
    drawing.caption(
        figure,
        "ρ = ‖φ(φ(z₀, 1), −1) − z₀‖ / ‖z₀‖ in float64, medians over seeds; accepted steps of "
        "adaptive schemes. Values above 1000 or not finite are drawn at the top." + image,
    )
    return drawing.save(figure, folder, "reversal_steps")


def _panel(axis: Axes, rows: pd.DataFrame, problem: str) -> None:
    for scheme in rows["scheme"].unique():
        medians = median_over_seeds(rows[rows["scheme"] == scheme])
        steps, rho = medians["n_steps"].clip(lower=1), medians["rho"].clip(FLOOR, CEILING)
        axis.loglog(steps, rho, **_look(scheme), markersize=2.2)
    for claim in CLAIMS:
        if claim.point and claim.problem == problem:
            axis.plot(*claim.point, "*", color="black", markersize=8, zorder=5)
    axis.set_title(labels.PROBLEMS[problem])
    axis.set_ylim(FLOOR / 10, CEILING * 10)
    axis.yaxis.set_major_locator(LogLocator(base=1e4, numticks=10))
    axis.xaxis.set_major_locator(LogLocator(base=10, numticks=10))
    axis.minorticks_off()


def _look(scheme: str) -> dict[str, Any]:
    colour, marker = _LOOKS.get(scheme, ("#000000", "X"))
    return {"color": colour, "marker": marker, "linewidth": 1.0}
