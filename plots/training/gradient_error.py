"""Gradient error against epoch."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from plots import drawing, labels, series
from plots.training import epochs
from plots.training.recorded import BASELINE, Recorded, Scheme


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each scheme, a panel for each network.

    An error of exactly zero, which a logarithmic axis lacks, is drawn a decade below the smallest
    error, at "0".
    """
    files: list[Path] = []
    measured = recorded.having("gradient_error")
    exact = measured.runs["gradient"] == BASELINE
    measured = replace(measured, runs=measured.runs[~exact])
    for scheme in measured.schemes() if len(measured.runs) else ():
        own = measured.of_scheme(scheme)
        for suffix, page in series.pages(epochs.groups(own, ["gradient_error"])):
            files += _draw(own, scheme, page, folder, f"gradient_error-{scheme.slug}{suffix}")
    return files


def _draw(
    recorded: Recorded, scheme: Scheme, groups: list[series.Group], folder: Path, name: str
) -> list[Path]:
    errors = recorded.epochs["gradient_error"]
    positive = errors[errors > 0]
    smallest, largest = (positive.min(), positive.max()) if len(positive) else (0.1, 1.0)
    zero = 10 ** (np.floor(np.log10(smallest)) - 1)
    top = np.ceil(np.log10(largest) + 0.1)
    shown = recorded.epochs.assign(gradient_error=errors.where(errors > 0, zero))
    networks = recorded.networks()
    figure, axes = drawing.subplots(1, len(networks), height=2.2, sharey=True)
    for axis, network in zip(axes[0], networks, strict=True):
        epochs.plot(axis, shown[shown["network"] == network], "gradient_error", groups, log="y")
        axis.set_ylim(zero / 2, 10**top)
        decades = np.arange(np.log10(zero) + 1, top + 1)
        axis.set_yticks(
            [zero, *10.0**decades], ["0", *(f"$10^{{{int(decade)}}}$" for decade in decades)]
        )
        axis.minorticks_off()
        axis.axhline(zero * 10**0.5, color="0.6", linewidth=0.6, linestyle=(0, (2, 2)))
        axis.set_title(labels.network(network))
        axis.set_xlabel("epoch")
    axes[0, 0].set_ylabel("gradient error\n" r"$\|g - g_{ref}\|_2\,/\,\|g_{ref}\|_2$")
    figure.suptitle(scheme.title, fontsize=9)
    drawing.legend(figure, epochs.entries(recorded, groups))
    drawing.caption(figure, recorded.protocol(), exact=True)
    return drawing.save(figure, folder, name)
