"""Test accuracy against epoch, with running statistics and with each test batch's own."""

from pathlib import Path

from matplotlib.ticker import PercentFormatter

from plots import drawing, labels, series
from plots.training import epochs
from plots.training.recorded import Recorded, Scheme

_ROWS = {
    "test_accuracy": "BatchNorm's\nrunning statistics",
    "test_accuracy_batch": "each test batch's\nown statistics",
}


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each network: a column for each scheme, a row for each kind of statistics.

    Nothing where no run has the test batches' own statistics.
    """
    measured = recorded.having("test_accuracy_batch")
    files: list[Path] = []
    for network in measured.networks():
        own = measured.of_network(network)
        keys = ["method", "n_steps", "seed", "epoch"]
        for suffix, page in series.pages(series.coinciding(own.epochs, [*_ROWS], keys, relative=0)):
            files += _draw(own, network, page, folder, f"statistics-{network}{suffix}")
    return files


def _draw(
    recorded: Recorded, network: str, groups: list[series.Group], folder: Path, name: str
) -> list[Path]:
    schemes = recorded.schemes()
    figure, axes = drawing.subplots(2, len(schemes), height=3.6, sharex=True, sharey=True)
    for column, scheme in enumerate(schemes):
        own = recorded.of_scheme(scheme)
        for axis, quantity in zip(axes[:, column], _ROWS, strict=True):
            epochs.plot(axis, own.epochs, quantity, groups)
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes[0, column].set_title(_title(own, scheme))
        axes[-1, column].set_xlabel("epoch")
    for axis, label in zip(axes[:, 0], _ROWS.values(), strict=True):
        axis.set_ylabel(label)
    figure.suptitle(f"{labels.network(network)}: test accuracy", fontsize=9)
    drawing.legend(figure, epochs.entries(recorded, groups))
    drawing.caption(
        figure,
        "Before the last epoch, the accuracy with each test batch's own statistics is measured on "
        f"up to 5,000 shuffled test images. {recorded.protocol()}",
        exact=True,
    )
    return drawing.save(figure, folder, name)


def _title(recorded: Recorded, scheme: Scheme) -> str:
    """The scheme, and whether the baseline is also ANODE, where that was not run."""
    is_baseline = scheme.is_baseline and "anode" not in recorded.gradients()
    return scheme.title + (" (ANODE = baseline)" if is_baseline else "")
