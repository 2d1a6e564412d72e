"""Peak memory against recomputation in the backward pass, for one block."""

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from plots import drawing, labels, series, style

ZERO = 0.7
"""The place of "0" on the logarithmic axis, in units of Nt."""
LABELLED = (1, 2, 4, 8, 16)
"""Numbers of checkpoints m that the figure names, besides the largest."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """anode-revolve with every number m of checkpoints, and the other methods as points."""
    revolved = rows[rows["gradient"].str.contains("anode-revolve:")]
    if revolved.empty:
        return []
    first = revolved.iloc[-1]
    key = ["network", "method", "n_steps"]
    same = recomputation(rows[(rows[key] == first[key]).all(axis=1)])
    line = same[same["m"].notna()].sort_values("m")
    # An adaptive solver chooses its own number of steps.
    others = same[~same["gradient"].str.match("anode-revolve|node-rk45")]
    groups = series.coinciding(others, ["again", "mebibytes"], key)
    return [
        file
        for suffix, page in series.pages(groups)
        for file in _draw(line, others, page, folder, f"memory_tradeoff{suffix}")
    ]


def recomputation(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the columns m, mebibytes and again: evaluations of the backward pass in steps of the
    scheme."""
    m = rows["gradient"].str.extract(r":m=(\d+)", expand=False).astype(float)
    stages = rows["nfe_forward"][m.notna()].iloc[0] / rows["n_steps"].iloc[0]
    mebibytes = rows["peak_bytes"] / drawing.MEBIBYTE
    return rows.assign(m=m, again=rows["nfe_backward"] / stages, mebibytes=mebibytes)


def _draw(
    line: pd.DataFrame, others: pd.DataFrame, groups: list[series.Group], folder: Path, name: str
) -> list[Path]:
    n_steps = int(line["n_steps"].iloc[0])
    look = {**style.curve("anode-revolve"), "linestyle": "solid", "markersize": 4}
    figure, ((axis,),) = drawing.subplots(1, 1, height=3.0, width=style.TWO_COLUMNS)
    axis.plot(line["again"], line["mebibytes"], **look)
    for row in line[line["m"].isin([*LABELLED, n_steps])].itertuples():
        axis.annotate(
            f"m = {row.m:g}",
            (row.again, row.mebibytes),
            xytext=(3, 4),
            textcoords="offset points",
            fontsize=6.5,
            color=style.colour("anode-revolve"),
        )
    for group in groups:
        row = others[others["gradient"] == group[0]].iloc[0]
        shown = {**style.curve(group[0]), "linestyle": "none", "markersize": 6}
        axis.plot(max(row["again"], ZERO * n_steps), row["mebibytes"], **shown)
    axis.margins(x=0.08)  # for the names of the outer points
    axis.set_xscale("log")
    axis.set_yscale("log")
    at = [value for value in drawing.one_two_five(line["again"]) if value > n_steps]
    drawing.ticks(axis.xaxis, [ZERO * n_steps, n_steps, *at])
    axis.set_xticklabels(["0", *axis.get_xticklabels()[1:]])
    every = pd.concat([line["mebibytes"], others["mebibytes"]])
    drawing.ticks(axis.yaxis, drawing.one_two_five(every))
    axis.set_xlabel("steps recomputed in the backward pass (0 is placed apart)")
    axis.set_ylabel("peak memory (MiB)")
    revolve = "ANODE, binomial checkpoints,\nat most m states kept"
    points = series.entries(groups, linestyle="none", markersize=6)
    drawing.legend(figure, [(Line2D([], [], **look), revolve), *points])
    first = line.iloc[0]
    drawing.caption(
        figure,
        f"{labels.network(first['network'])}, {labels.scheme(first['method'], n_steps)}, one "
        f"training step of {int(first['batch_size'])} images; "
        f"{labels.how_counted(first['device'])}. A step has as many evaluations of the right-hand "
        "side as the scheme has stages.",
    )
    return drawing.save(figure, folder, name)
