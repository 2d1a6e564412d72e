"""Peak memory of a training step against the number of ODE blocks."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from plots import style
from plots.memory.laws import chains

MIB = 2**20


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """For the last scheme: a panel for a small, a middle and the largest Nt."""
    rows = chains(rows)
    if rows.empty or rows["n_blocks"].nunique() < 2:
        return []
    style.begin()
    method = str(rows["method"].iloc[-1])
    rows = rows[rows["method"] == method]
    several = rows.groupby("n_steps")["n_blocks"].nunique() > 1
    every = sorted(several[several].index)
    panels = sorted({every[0], every[len(every) // 2], every[-1]})
    gradients = list(rows["gradient"].unique())
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(style.width(len(panels)), 2.4),
        squeeze=False,
        layout="constrained",
    )
    for axis, n_steps in zip(axes[0], panels, strict=True):
        chosen = rows[rows["n_steps"] == n_steps]
        for gradient in gradients:
            of_gradient = chosen[chosen["gradient"] == gradient].sort_values("n_blocks")
            axis.loglog(
                of_gradient["n_blocks"],
                of_gradient["peak_bytes"] / MIB,
                **style.curve(gradient, gradients),
            )
        axis.set_title(f"Nt = {n_steps}")
        axis.set_xlabel("ODE blocks, L")
        style.ticks(axis.xaxis, sorted(rows["n_blocks"].unique()))
        style.ticks(axis.yaxis, style.one_two_five(chosen["peak_bytes"] / MIB))
    axes[0, 0].set_ylabel("peak memory (MiB)")
    style.legend(figure, gradients)
    first = rows.iloc[0]
    style.footnote(
        figure,
        f"ResNet-4 with L ODE blocks of 16 channels, {style.method_name(method)}, one "
        f"training step of {int(first['batch_size'])} images; "
        f"{style.how_counted(first['device'])}.",
    )
    return style.save(figure, folder, "memory_blocks")
