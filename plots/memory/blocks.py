"""Peak memory of a training step against the number of ODE blocks."""

from pathlib import Path

import pandas as pd

from plots import drawing, labels, series
from plots.memory.laws import chains


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """For the last scheme: a panel for a small, a middle and the largest Nt."""
    rows = chains(rows)
    if rows.empty or rows["n_blocks"].nunique() < 2:
        return []
    rows = rows[rows["method"] == rows["method"].iloc[-1]]
    several = rows.groupby("n_steps")["n_blocks"].nunique() > 1
    every = sorted(several[several].index)
    shown = sorted({every[0], every[len(every) // 2], every[-1]})
    rows = rows[rows["n_steps"].isin(shown)]
    rows = rows.assign(mebibytes=rows["peak_bytes"] / drawing.MEBIBYTE)
    groups = series.coinciding(rows, ["mebibytes"], ["n_steps", "n_blocks"])
    return [
        file
        for suffix, page in series.pages(groups)
        for file in _draw(rows, page, folder, f"memory_blocks{suffix}")
    ]


def _draw(rows: pd.DataFrame, groups: list[series.Group], folder: Path, name: str) -> list[Path]:
    panels = sorted(rows["n_steps"].unique())
    figure, axes = drawing.subplots(1, len(panels), height=2.4, sharey=True)
    for axis, n_steps in zip(axes[0], panels, strict=True):
        series.plot(axis, rows[rows["n_steps"] == n_steps], "n_blocks", "mebibytes", groups)
        axis.set_title(f"Nt = {n_steps}")
        axis.set_xlabel("ODE blocks, L")
        drawing.ticks(axis.xaxis, sorted(rows["n_blocks"].unique()))
        drawing.ticks(axis.yaxis, drawing.one_two_five(rows["mebibytes"]))
    axes[0, 0].set_ylabel("peak memory (MiB)")
    drawing.legend(figure, series.entries(groups))
    first = rows.iloc[0]
    drawing.caption(
        figure,
        f"ResNet-4 with L ODE blocks of 16 channels, {labels.method(first['method'])}, one "
        f"training step of {int(first['batch_size'])} images; "
        f"{labels.how_counted(first['device'])}.",
    )
    return drawing.save(figure, folder, name)
