"""Test accuracy against epoch, with running statistics and with each test batch's own."""

from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator, PercentFormatter

from plots import style
from plots.recorded import Panel, Recorded

_ROWS = (
    ("test_accuracy", "BatchNorm's\nrunning statistics"),
    ("test_accuracy_batch", "each test batch's\nown statistics"),
)


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each network: a column for each scheme, a row for each kind of statistics.

    Nothing where no run has the test batches' own statistics.
    """
    measured = recorded.having("test_accuracy_batch")
    return [
        file
        for network in measured.networks()
        for file in _draw(measured.of_network(network), network, folder)
    ]


def _draw(recorded: Recorded, network: str, folder: Path) -> list[Path]:
    panels = recorded.panels()
    figure, axes = style.subplots(
        len(_ROWS),
        len(panels),
        figsize=(style.width(len(panels)), 3.6),
        sharex=True,
        sharey=True,
    )
    gradients = recorded.gradients()
    for column, panel in enumerate(panels):
        for row, (quantity, label) in enumerate(_ROWS):
            axis = axes[row, column]
            _curves(axis, recorded.of(panel), quantity, gradients)
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(_title(recorded.of(panel), panel))
        axes[-1, column].set_xlabel("epoch")
    figure.suptitle(f"{style.network_name(network)}: test accuracy", fontsize=9)
    style.legend(figure, gradients)
    style.footnote(
        figure,
        "Thin: one seed. Thick: the mean of the seeds. Before the last epoch the lower row is "
        f"measured on up to 5,000 shuffled test images. {recorded.protocol()}",
    )
    return style.save(figure, folder, f"statistics-{network}")


def _curves(axis: Any, recorded: Recorded, quantity: str, gradients: list[str]) -> None:
    for gradient in recorded.gradients():
        epochs = recorded.epochs[recorded.epochs["gradient"] == gradient]
        colour = style.colour(gradient, gradients)
        for _, run in epochs.groupby("run"):
            axis.plot(run["epoch"], run[quantity], color=colour, alpha=0.4, linewidth=0.6)
        mean = epochs.groupby("epoch")[quantity].mean()
        axis.plot(mean.index, mean, color=colour, linestyle=style.line(gradient), linewidth=1.4)


def _title(recorded: Recorded, panel: Panel) -> str:
    """The scheme; and that ANODE is the baseline, where it is and was not run."""
    is_baseline = panel.is_baseline and "anode" not in recorded.gradients()
    return panel.title + (" (ANODE = baseline)" if is_baseline else "")
