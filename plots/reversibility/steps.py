"""Reversibility error against the number of steps, the paper's claims beside it."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from plots import style
from plots.reversibility.claim import CLAIMS, Steps
from plots.reversibility.rows import PROBLEM_NAMES, colour, marker, median_over_seeds, scheme_name

CEILING, FLOOR = 1e3, 1e-16


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """reversal_steps: a panel for each problem, a line for each scheme, float64.

    Errors above 1000, infinite ones among them, stand at the top, and those below 1e-16 at the
    bottom. A star is what the paper claims.
    """
    style.begin()
    rows = rows[rows["precision"] == "float64"]
    rows = rows[(rows["problem"] != "convolution") | (rows["activation"] == "relu")]
    problems = [name for name in PROBLEM_NAMES if (rows["problem"] == name).any()]
    schemes = list(rows[rows["problem"].isin(problems)]["scheme"].unique())
    columns = min(3, len(problems))
    lines = -(-len(problems) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(style.width(columns), 0.4 + 1.9 * lines),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(problems) :]:
        axis.set_visible(False)
    for problem, axis in zip(problems, axes.flat, strict=False):
        _panel(axis, rows[rows["problem"] == problem], problem)
    for axis in axes[:, 0]:
        axis.set_ylabel("ρ")
    for axis in axes.flat[max(0, len(problems) - columns) : len(problems)]:
        axis.set_xlabel("steps")
    _legend(figure, schemes)
    images = rows[rows["data"] != "none"]
    image = (
        ""
        if images.empty
        else f" Image: {images.iloc[0]['data']}, fingerprint {images.iloc[0]['fingerprint']}."
    )
    style.footnote(
        figure,
        "ρ = ‖φ(φ(z₀, 1), −1) − z₀‖ / ‖z₀‖ in float64, medians over seeds; accepted steps where "
        "they are adaptive. What is above 1000 or not finite stands at the top." + image,
    )
    return style.save(figure, folder, "reversal_steps")


def _panel(axis: Axes, rows: pd.DataFrame, problem: str) -> None:
    for scheme in rows["scheme"].unique():
        medians = median_over_seeds(rows[rows["scheme"] == scheme])
        axis.loglog(
            medians["n_steps"].clip(lower=1),
            medians["rho"].clip(FLOOR, CEILING),
            color=colour(scheme),
            marker=marker(scheme),
            markersize=2.2,
            linewidth=1.0,
        )
    for claim in CLAIMS:
        if isinstance(claim, Steps) and claim.problem == problem:
            axis.plot(claim.steps, claim.rho, "*", color="black", markersize=8, zorder=5)
    axis.set_title(PROBLEM_NAMES[problem])
    axis.set_ylim(FLOOR / 10, CEILING * 10)
    axis.yaxis.set_major_locator(LogLocator(base=1e4, numticks=10))
    axis.xaxis.set_major_locator(LogLocator(base=10, numticks=10))
    axis.minorticks_off()


def _legend(figure: Figure, schemes: list[str]) -> None:
    handles = [
        Line2D([], [], color=colour(s), marker=marker(s), markersize=4, linewidth=1.4)
        for s in schemes
    ]
    star = Line2D([], [], color="black", marker="*", markersize=8, linestyle="none")
    figure.legend(
        [*handles, star],
        [*map(scheme_name, schemes), "claimed by the paper"],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3 if figure.get_figwidth() > style.ONE_COLUMN else 1,
    )
