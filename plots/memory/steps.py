"""Peak memory of a training step against the number of steps."""

from pathlib import Path

import pandas as pd

from plots import style
from plots.panels import grid

MIB = 2**20


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each of the networks that are no chain."""
    style.begin()
    rows = rows[~rows["gradient"].str.contains("anode-revolve:")]
    rows = rows[~rows["network"].str.startswith(style.CHAIN)]
    if rows.empty:
        return []
    gradients = list(rows["gradient"].unique())
    figure, panels = grid(rows, x="steps per block, Nt", y="peak memory (MiB)", sharex=True)
    for axis, chosen in panels:
        for gradient in gradients:
            of_gradient = chosen[chosen["gradient"] == gradient].sort_values("n_steps")
            axis.loglog(
                of_gradient["n_steps"],
                of_gradient["peak_bytes"] / MIB,
                **style.curve(gradient, gradients),
            )
        style.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
        style.ticks(axis.yaxis, style.one_two_five(chosen["peak_bytes"] / MIB))
    style.legend(figure, gradients)
    first = rows.iloc[0]
    style.footnote(
        figure,
        f"One training step of {int(first['batch_size'])} images, what it needs beyond what was "
        f"there before it; {style.how_counted(first['device'])}.",
    )
    return style.save(figure, folder, "memory_steps")
