"""Test accuracy against epoch, with three kinds of BatchNorm statistics."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from plots import drawing, labels, series, style
from plots.training import epochs
from plots.training.recorded import Recorded, Scheme

_ROWS = {
    "test_accuracy": "running statistics",
    "test_accuracy_forward": "running statistics of\nforward passes alone",
    "test_accuracy_batch": "statistics of\neach test batch",
}
_RE_ESTIMATED = "test_accuracy_per_evaluation"


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
    figure, axes = drawing.subplots(3, len(schemes), height=5.0, sharex=True, sharey=True)
    for column, scheme in enumerate(schemes):
        own = recorded.of_scheme(scheme)
        for axis, quantity in zip(axes[:, column], _ROWS, strict=True):
            epochs.plot(axis, own.epochs, quantity, groups)
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _mark_re_estimated(axes[-1, column], own, groups)
        axes[0, column].set_title(_title(own, scheme))
        axes[-1, column].set_xlabel("epoch")
    for axis, label in zip(axes[:, 0], _ROWS.values(), strict=True):
        axis.set_ylabel(label)
    figure.suptitle(f"{labels.network(network)}: test accuracy", fontsize=9)
    star = Line2D([], [], linestyle="", marker="*", color="0.3")
    entries = [*epochs.entries(recorded, groups), (star, "a set for each evaluation (see below)")]
    drawing.legend(figure, entries)
    drawing.caption(
        figure,
        "Stars: after the last epoch, with statistics re-estimated over the training images, a set "
        "for each evaluation of f. Before the last epoch, the two lower rows are measured on up to "
        f"5,000 shuffled test images. {recorded.protocol()}",
        exact=True,
    )
    return drawing.save(figure, folder, name)


def _mark_re_estimated(axis: Axes, recorded: Recorded, groups: list[series.Group]) -> None:
    leaders = [group[0] for group in groups]
    last = recorded.having(_RE_ESTIMATED).epochs.dropna(subset=_RE_ESTIMATED)
    for gradient, own in last[last["gradient"].isin(leaders)].groupby("gradient"):
        mean = own[_RE_ESTIMATED].mean()
        colour = style.colour(str(gradient), leaders)
        axis.plot(own["epoch"].max(), mean, marker="*", color=colour, clip_on=False, zorder=3)


def _title(recorded: Recorded, scheme: Scheme) -> str:
    """The scheme, and whether the baseline is also ANODE, where that was not run."""
    is_baseline = scheme.is_baseline and "anode" not in recorded.gradients()
    return scheme.title + (" (ANODE = baseline)" if is_baseline else "")
