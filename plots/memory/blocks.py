"""Peak memory of a training step against the number of ODE blocks."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from plots import curves, drawing, labels
from plots.memory.laws import chains


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """For the last scheme: a panel for a small, a middle and the largest Nt."""
    rows = chains(rows)
    if rows.empty or rows["n_blocks"].nunique() < 2:
        return []
    rows = rows[rows["method"] == rows["method"].iloc[-1]]
    several = rows.groupby("n_steps")["n_blocks"].nunique() > 1
    every = sorted(several[several].index)
    rows = rows[rows["n_steps"].isin([every[0], every[len(every) // 2], every[-1]])]
    rows = rows.assign(mebibytes=rows["peak_bytes"] / drawing.MEBIBYTE)

    def finish(axis: Axes, chosen: pd.DataFrame) -> None:
        drawing.ticks(axis.xaxis, sorted(rows["n_blocks"].unique()))
        drawing.ticks(axis.yaxis, drawing.one_two_five(rows["mebibytes"]))

    first = rows.iloc[0]
    return curves.draw(
        rows,
        folder,
        "memory_blocks",
        x=("n_blocks", "ODE blocks, L"),
        y=("mebibytes", "peak memory (MiB)"),
        finish=finish,
        across=("n_steps", "Nt = {}".format),
        caption="ResNet-4 with L ODE blocks of 16 channels, one training step of "
        f"{int(first['batch_size'])} images; {labels.how_counted(first['device'])}.",
        sharey=True,
    )
