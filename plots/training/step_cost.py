"""Memory and time of a training step by gradient method."""

from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.patches import Patch

from plots import drawing, labels, series, style
from plots.conditions import differences_of_environments
from plots.training.recorded import Recorded, Scheme

_ROWS = (
    ("peak_memory", "peak memory (MiB)", 1 / drawing.MEBIBYTE),
    ("seconds_per_step", "time per step (ms)", 1e3),
)
_MOST_LABELS = 3
"""A panel with at most this number of bars names them below; otherwise a legend does."""


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """A figure for each scheme: memory above, time below, a column for each network."""
    files: list[Path] = []
    for scheme in recorded.schemes():
        own = recorded.of_scheme(scheme)
        measured = {*own.measurements["gradient"]}
        groups = [(gradient,) for gradient in own.gradients() if gradient in measured]
        for suffix, page in series.pages(groups):
            gradients = [gradient for (gradient,) in page]
            files += _draw(own, scheme, gradients, folder, f"cost-{scheme.slug}{suffix}")
    return files


def _draw(
    recorded: Recorded, scheme: Scheme, gradients: list[str], folder: Path, name: str
) -> list[Path]:
    measured = recorded.measurements
    networks = [n for n in recorded.networks() if n in set(measured["network"])]
    named = len(gradients) <= _MOST_LABELS
    figure, axes = drawing.subplots(len(_ROWS), len(networks), height=3.6)
    for row, (quantity, label, scale) in enumerate(_ROWS):
        axes[row, 0].set_ylabel(label)
        for column, network in enumerate(networks):
            of_panel = (measured["network"] == network) & (measured["quantity"] == quantity)
            values = measured[of_panel].set_index("gradient")[["value", "low", "high"]] * scale
            chosen = values.loc[[g for g in gradients if g in values.index]]
            _bars(axes[row, column], chosen, named=named)
            axes[0, column].set_title(labels.network(network))
    figure.suptitle(scheme.title, fontsize=9)
    if not named:
        boxes = [Patch(color=style.colour(g, gradients)) for g in gradients]
        drawing.legend(figure, list(zip(boxes, map(labels.gradient, gradients), strict=True)))
    drawing.caption(
        figure,
        f"One training step of {int(measured.iloc[0]['batch_size'])} images; whiskers: quartiles "
        "of steps. Methods of a network that one command measured took turns. A baseline evaluates "
        f"the right-hand side of each block once. {recorded.protocol()}"
        f"{differences_of_environments(recorded.measured_in)}",
    )
    return drawing.save(figure, folder, name)


def _bars(axis: Any, values: pd.DataFrame, *, named: bool) -> None:
    """A bar for each gradient method, with its value and quartiles."""
    gradients = list(values.index)
    spread = [values["value"] - values["low"], values["high"] - values["value"]]
    axis.bar(
        range(len(gradients)),
        values["value"],
        yerr=spread if (values["high"] > values["low"]).any() else None,
        error_kw={"linewidth": 0.8},
        color=[style.colour(gradient, gradients) for gradient in gradients],
        width=0.65,
    )
    for position, (value, _, high) in enumerate(values.itertuples(index=False)):
        axis.annotate(
            f"{value:.0f}" if value >= 100 else f"{value:.3g}",
            (position, high),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            rotation="horizontal" if named else "vertical",
            fontsize=6.5,
        )
    axis.set_xticks(range(len(gradients)) if named else [])
    if named:
        names = [labels.short_gradient(gradient) for gradient in gradients]
        axis.set_xticklabels([name if "\n" in name else fill(name, 14) for name in names])
    axis.margins(y=0.12 if named else 0.25)
    axis.grid(False, axis="x")
