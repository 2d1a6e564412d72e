"""Training loss and test accuracy against epoch, as in the ANODE paper's Figures 3 to 5."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import PercentFormatter

from plots import drawing, labels, series
from plots.training import epochs
from plots.training.recorded import Recorded, Scheme

_ROWS = {"train_loss": "training loss", "test_accuracy": "test accuracy"}


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each scheme, a column for each network."""
    files: list[Path] = []
    for scheme in recorded.schemes():
        own = recorded.of_scheme(scheme)
        for suffix, page in series.pages(epochs.groups(own, [*_ROWS])):
            files += _draw(own, scheme, page, folder, f"training-{scheme.slug}{suffix}")
    return files


def _draw(
    recorded: Recorded, scheme: Scheme, groups: list[series.Group], folder: Path, name: str
) -> list[Path]:
    networks = recorded.networks()
    figure, axes = drawing.subplots(2, len(networks), height=3.6, sharex="col")
    for column, network in enumerate(networks):
        own = recorded.of_network(network)
        loss, accuracy = axes[:, column]
        log = "y" if _spans_decades(own.epochs["train_loss"]) else ""
        epochs.plot(loss, own.epochs, "train_loss", groups, log=log)
        epochs.plot(accuracy, own.epochs, "test_accuracy", groups)
        loss.set_title(labels.network(network))
        accuracy.sharey(axes[1, 0])
        accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        accuracy.set_xlabel("epoch")
        epochs.mark_lost(accuracy, own.runs)
    for axis, label in zip(axes[:, 0], _ROWS.values(), strict=True):
        axis.set_ylabel(label)
    figure.suptitle(scheme.title, fontsize=9)
    drawing.legend(figure, epochs.entries(recorded, groups))
    drawing.caption(figure, recorded.protocol(), exact=True)
    return drawing.save(figure, folder, name)


def _spans_decades(losses: pd.Series) -> bool:
    return len(losses) > 0 and losses.min() > 0 and losses.max() / losses.min() > 10
