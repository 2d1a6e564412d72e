"""Peak memory of a training step against the number of steps."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from plots import style
from plots.recorded import METHOD_NAMES

MIB = 2**20


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A row for each scheme, a column for each of the networks that are no chain."""
    style.begin()
    rows = rows[~rows["gradient"].str.contains("anode-revolve:")]
    rows = rows[~rows["network"].str.startswith(style.CHAIN)]
    networks, methods = list(rows["network"].unique()), list(rows["method"].unique())
    if not networks:
        return []
    gradients = list(rows["gradient"].unique())
    figure, axes = plt.subplots(
        len(methods),
        len(networks),
        figsize=(style.width(len(networks)), 1.0 + 1.7 * len(methods)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for i, method in enumerate(methods):
        for j, network in enumerate(networks):
            axis = axes[i, j]
            chosen = rows[(rows["network"] == network) & (rows["method"] == method)]
            for gradient in gradients:
                of_gradient = chosen[chosen["gradient"] == gradient].sort_values("n_steps")
                axis.loglog(
                    of_gradient["n_steps"],
                    of_gradient["peak_bytes"] / MIB,
                    **style.curve(gradient, gradients),
                )
            style.ticks(axis.xaxis, sorted(rows["n_steps"].unique()))
            style.ticks(axis.yaxis, style.one_two_five(chosen["peak_bytes"] / MIB))
            if i == 0:
                axis.set_title(style.network_name(network))
            if i == len(methods) - 1:
                axis.set_xlabel("steps per block, Nt")
        axes[i, 0].set_ylabel(f"{METHOD_NAMES.get(method, method)}\npeak memory (MiB)")
    style.legend(figure, gradients)
    first = rows.iloc[0]
    style.footnote(
        figure,
        f"One training step of {int(first['batch_size'])} images, what it needs beyond what was "
        f"there before it; {style.how_counted(first['device'])}.",
    )
    return style.save(figure, folder, "memory_steps")
