"""Time against memory of a training step, one point per gradient method."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from plots import drawing, labels, series, style
from plots.cost.recomputation import cost_of_recomputation

_BACKPROP: dict[str, Any] = {"color": "0.6", "linewidth": 0.8}
_RECOMPUTED: dict[str, Any] = {**_BACKPROP, "linestyle": (0, (4, 2))}


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each scheme and execution, a column for each network, a row for each memory
    format. Times and memory are divided by backprop's in the same panel, as in the table."""
    files: list[Path] = []
    keys = ["method", "n_steps", "execution"]
    for (method, n_steps, execution), own in rows.groupby(keys, sort=False):
        steps = own[own["phase"] == "step"]
        drawn = steps[steps["peak_bytes"].notna()]
        if drawn.empty:
            continue
        name = f"cost_memory-{method}-nt{n_steps}" + ("" if execution == "eager" else "-captured")
        groups: list[series.Group] = [(gradient,) for gradient in drawn["gradient"].unique()]
        for suffix, page in series.pages(groups):
            files += _draw(own, drawn, page, _not_drawn(steps), folder, name + suffix)
    return files


def _draw(
    rows: pd.DataFrame,
    steps: pd.DataFrame,
    groups: list[series.Group],
    not_drawn: str,
    folder: Path,
    name: str,
) -> list[Path]:
    networks, formats = list(steps["network"].unique()), list(steps["memory_format"].unique())
    figure, axes = drawing.subplots(
        len(formats), len(networks), height=0.6 + 2.0 * len(formats), sharex="col", sharey="col"
    )
    for i, memory_format in enumerate(formats):
        axes[i, 0].set_ylabel(f"{labels.memory_format(memory_format)}\npeak memory ÷ backprop's")
        for j, network in enumerate(networks):
            own = rows[(rows["network"] == network) & (rows["memory_format"] == memory_format)]
            _panel(axes[i, j], own, [gradient for (gradient,) in groups])
            axes[0, j].set_title(labels.network(network))
            axes[-1, j].set_xlabel("time ÷ backprop's")
    lines = [
        (Line2D([], [], **_BACKPROP), "backprop's time"),
        (Line2D([], [], **_RECOMPUTED), "backprop with two forward passes"),
    ]
    points = series.entries(groups, linestyle="none", markersize=5.5)
    drawing.legend(figure, [*points, *lines])
    first = steps.iloc[0]
    drawing.caption(
        figure,
        f"{labels.scheme(first['method'], first['n_steps'])}, one {first['execution']} training "
        f"step of {int(first['batch_size'])} images in {first['precision']} on {first['device']}; "
        "medians and quartiles of the quotients with backprop's step, round by round. Two forward "
        "passes: 1 + F / (F + B) of backprop's own seconds forward (F) and backward (B). "
        f"{labels.how_counted(first['device']).capitalize()}.{not_drawn}",
    )
    return drawing.save(figure, folder, name)


def _panel(axis: Any, rows: pd.DataFrame, gradients: list[str]) -> None:
    """The points of one network and memory format; rows: all phases."""
    steps = rows[(rows["phase"] == "step") & rows["peak_bytes"].notna()]
    base = steps[steps["gradient"] == "backprop"]["peak_bytes"]
    if base.empty:
        return
    axis.axvline(1, **_BACKPROP)
    recomputed = cost_of_recomputation(rows)
    if recomputed is not None:
        axis.axvline(recomputed, **_RECOMPUTED)
    for row in steps[steps["gradient"].isin(gradients)].itertuples():
        look = style.curve(row.gradient, gradients)
        axis.errorbar(
            row.ratio,
            row.peak_bytes / base.iloc[0],
            xerr=[[row.ratio - row.ratio_low], [row.ratio_high - row.ratio]],
            elinewidth=0.8,
            **{**look, "linestyle": "none", "markersize": 5.5},
        )


def _not_drawn(rows: pd.DataFrame) -> str:
    """A sentence on the gradient methods without a point, or ""."""
    unseen = rows[(rows["reason"] == "") & rows["peak_bytes"].isna()]["gradient"].unique()
    names = "; ".join(map(labels.gradient, unseen))
    text = f" Not drawn, their memory is not measured: {names}." if names else ""
    failed = rows[rows["reason"] != ""].drop_duplicates(["gradient", "reason"])
    listed = "; ".join(f"{labels.gradient(r.gradient)} ({r.reason})" for r in failed.itertuples())
    return text + (f" Not measured: {listed}." if listed else "")
