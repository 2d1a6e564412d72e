"""Peak memory of a training step against the number of steps."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from plots import curves, drawing, labels


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each network that is not a chain of blocks."""
    rows = rows[~rows["gradient"].str.contains("anode-revolve:")]
    rows = rows[~rows["network"].str.startswith(labels.CHAIN)]
    if rows.empty:
        return []
    rows = rows.assign(mebibytes=rows["peak_bytes"] / drawing.MEBIBYTE)

    def finish(axis: Axes, chosen: pd.DataFrame) -> None:
        of_network = rows[rows["network"] == chosen["network"].iloc[0]]
        drawing.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
        drawing.ticks(axis.yaxis, drawing.one_two_five(of_network["mebibytes"]))

    return curves.draw(
        rows,
        folder,
        "memory_steps",
        x=("n_steps", "steps per block, Nt"),
        y=("mebibytes", "peak memory (MiB)"),
        finish=finish,
        caption=f"One training step of {int(rows['batch_size'].iloc[0])} images: memory beyond "
        f"what was allocated before it; {labels.how_counted(rows['device'].iloc[0])}.",
        sharex=True,
        sharey="col",
    )
