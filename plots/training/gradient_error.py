"""Gradient error against epoch."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from plots import style
from plots.recorded import BASELINE, Recorded


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each method and number of steps, a panel for each network.

    An error of exactly zero has no place on a logarithmic axis: it is drawn on a line of its own
    below the axis's smallest error, labelled "0".
    """
    return [
        file
        for panel in recorded.panels()
        for file in _draw(recorded.of(panel), panel.title, folder, f"gradient_error-{panel.slug}")
    ]


def _draw(recorded: Recorded, title: str, folder: Path, name: str) -> list[Path]:
    epochs = recorded.epochs[
        (recorded.epochs["gradient"] != BASELINE) & recorded.epochs["gradient_error"].notna()
    ]
    if epochs.empty:
        return []
    style.begin()
    networks = [n for n in recorded.networks() if n in set(epochs["network"])]
    gradients = [g for g in recorded.gradients() if g in set(epochs["gradient"])]
    figure, axes = plt.subplots(
        1,
        len(networks),
        figsize=(style.width(len(networks)), 2.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    positive = epochs["gradient_error"][epochs["gradient_error"] > 0]
    smallest = float(positive.min()) if len(positive) else 1e-1
    largest = float(positive.max()) if len(positive) else 1.0
    zero = 10 ** (np.floor(np.log10(smallest)) - 1)
    for axis, network in zip(axes[0], networks, strict=True):
        of_network = epochs[epochs["network"] == network]
        for gradient in gradients:
            of_gradient = of_network[of_network["gradient"] == gradient]
            colour = style.colour(gradient, gradients)
            shown = of_gradient["gradient_error"].where(of_gradient["gradient_error"] > 0, zero)
            seeds = shown.groupby(of_gradient["epoch"])
            mean = seeds.mean()
            axis.plot(
                mean.index,
                mean,
                color=colour,
                linestyle=style.line(gradient),
                linewidth=1.4,
                marker="o" if len(mean) <= 20 else None,
                markersize=2.5,
            )
            axis.fill_between(mean.index, seeds.min(), seeds.max(), color=colour, alpha=0.15, lw=0)
        axis.set_yscale("log")
        axis.set_ylim(zero / 2, 10 ** np.ceil(np.log10(largest) + 0.1))
        decades = np.arange(np.log10(zero) + 1, np.ceil(np.log10(largest) + 0.1) + 1)
        axis.set_yticks(
            [zero, *10.0**decades], ["0", *(f"$10^{{{int(decade)}}}$" for decade in decades)]
        )
        axis.minorticks_off()
        axis.axhline(zero * 10**0.5, color="0.6", linewidth=0.6, linestyle=(0, (2, 2)))
        axis.set_title(style.network_name(network))
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0, 0].set_ylabel("gradient error\n" r"$\|g - g_{ref}\|_2\,/\,\|g_{ref}\|_2$")
    figure.suptitle(title, fontsize=9)
    style.legend(figure, gradients)
    style.footnote(figure, recorded.protocol())
    return style.save(figure, folder, name)
