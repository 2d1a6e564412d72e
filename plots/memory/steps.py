"""Peak memory of a training step against the number of steps."""

from pathlib import Path

import pandas as pd

from plots import drawing, labels, series


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each network that is not a chain of blocks."""
    rows = rows[~rows["gradient"].str.contains("anode-revolve:")]
    rows = rows[~rows["network"].str.startswith(labels.CHAIN)]
    if rows.empty:
        return []
    rows = rows.assign(mebibytes=rows["peak_bytes"] / drawing.MEBIBYTE)
    groups = series.coinciding(rows, ["mebibytes"], ["method", "network", "n_steps"])
    return [
        file
        for suffix, page in series.pages(groups)
        for file in _draw(rows, page, folder, f"memory_steps{suffix}")
    ]


def _draw(rows: pd.DataFrame, groups: list[series.Group], folder: Path, name: str) -> list[Path]:
    figure, panels = drawing.grid(
        rows, x="steps per block, Nt", y="peak memory (MiB)", sharex=True, sharey="col"
    )
    for axis, chosen in panels:
        series.plot(axis, chosen, "n_steps", "mebibytes", groups)
        drawing.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
        of_network = rows[rows["network"] == chosen["network"].iloc[0]]
        drawing.ticks(axis.yaxis, drawing.one_two_five(of_network["mebibytes"]))
    drawing.legend(figure, series.entries(groups))
    first = rows.iloc[0]
    drawing.caption(
        figure,
        f"One training step of {int(first['batch_size'])} images: memory beyond what was allocated "
        f"before it; {labels.how_counted(first['device'])}.",
    )
    return drawing.save(figure, folder, name)
