"""What each fault of the continuous adjoint costs in test accuracy."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bench.records.files import write_whole
from plots import style
from plots.recorded import Panel, Recorded

LADDER = ("anode", "node-grid-frozen", "node-frozen", "node")
"""From the exact gradient to the continuous adjoint: each has one fault more than the last."""

FAULTS = ("inconsistency", "drift", "statistics")
"""The fault that each rung of the ladder adds: a discretised adjoint equation is not the adjoint of
the discretised one; states solved backwards drift; the backward solve updates BatchNorm's running
statistics a second time."""

_COLOURS = {"inconsistency": "#0072B2", "drift": "#E69F00", "statistics": "#882255"}
_POLLUTED = "drift (with polluted statistics)"
_SEVERAL, _TOTAL = "#999933", "0.45"


class _Step(NamedTuple):
    """Between two gradient methods, of which the second has the faults and the first has not."""

    faults: str
    without: str
    with_: str


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """ablation.csv, with every seed, ablation.md, and a figure for each method and number of steps.

    Nothing where the runs have no more of the ladder than its ends.
    """
    losses = paired_losses(recorded)
    if losses.empty:
        return []
    csv, markdown = folder / "ablation.csv", folder / "ablation.md"
    write_whole(csv, losses.to_csv(index=False))
    write_whole(markdown, _markdown(losses, recorded))
    figures = [
        file
        for panel in recorded.panels()
        for file in _draw(_of(losses, panel), recorded.of(panel), panel, folder)
    ]
    return [csv, markdown, *figures]


def paired_losses(recorded: Recorded) -> pd.DataFrame:
    """A row for each network, scheme, seed and step of the ladder: by how many percentage points of
    test accuracy, after the last epoch, the method with the faults is below the one without.

    Paired: both runs have the same seed, so the same initial weights and batches. Seeds of which
    one of the two did not end well are left out. The faults of rungs that were not run are taken
    together; "total" is from one end of the ladder to the other, where both are there. Another row
    compares the drift where the statistics are polluted in both, if node-grid was run.
    """
    runs = recorded.runs[recorded.runs["status"] == "ok"]
    rows = []
    for (network, method, n_steps), group in runs.groupby(
        ["network", "method", "n_steps"], sort=False
    ):
        accuracy = group.pivot_table(
            index="seed", columns="gradient", values="final_test_accuracy", observed=True
        ).astype(float)
        for step in _steps(list(accuracy.columns)):
            lost = 100 * (accuracy[step.without] - accuracy[step.with_])
            rows += [
                {
                    "network": network,
                    "method": method,
                    "n_steps": n_steps,
                    "faults": step.faults,
                    "without": step.without,
                    "with": step.with_,
                    "seed": seed,
                    "lost": value,
                }
                for seed, value in lost.dropna().items()
            ]
    return pd.DataFrame(rows)


def _steps(gradients: list[str]) -> list[_Step]:
    rungs = [gradient for gradient in LADDER if gradient in gradients]
    ends = [LADDER[0], LADDER[-1]]
    if rungs == ends:
        return []
    steps = [
        _Step(" + ".join(FAULTS[LADDER.index(low) : LADDER.index(high)]), low, high)
        for low, high in pairwise(rungs)
    ]
    if {"node-grid", "node"} <= set(gradients):
        steps.append(_Step(_POLLUTED, "node-grid", "node"))
    return [*steps, _Step("total", *ends)] if set(ends) <= set(rungs) else steps


def _of(losses: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    return losses[(losses["method"] == panel.method) & (losses["n_steps"] == panel.n_steps)]


def _draw(losses: pd.DataFrame, recorded: Recorded, panel: Panel, folder: Path) -> list[Path]:
    """Bars: means over the seeds. Points: the seeds."""
    shown = losses[losses["faults"] != _POLLUTED]
    if shown.empty:
        return []
    style.begin()
    networks, faults = list(shown["network"].unique()), list(shown["faults"].unique())
    figure, axis = plt.subplots(figsize=(style.width(len(networks)), 2.4), layout="constrained")
    width = 0.8 / len(faults)
    for i, fault in enumerate(faults):
        own = shown[shown["faults"] == fault]
        colour = _TOTAL if fault == "total" else _COLOURS.get(fault, _SEVERAL)
        for j, network in enumerate(networks):
            lost = own[own["network"] == network]["lost"]
            at = j + (i - (len(faults) - 1) / 2) * width
            label = fault if j == 0 else None
            axis.bar(at, lost.mean(), width * 0.9, color=colour, alpha=0.75, label=label)
            spread = np.linspace(-0.2, 0.2, len(lost)) * width if len(lost) > 1 else 0.0
            axis.plot(at + spread * np.ones(len(lost)), lost, "o", markersize=2.5, color="black")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xticks(range(len(networks)), [style.network_name(network) for network in networks])
    axis.grid(False, axis="x")
    axis.set_ylabel("test accuracy lost\n(percentage points)")
    axis.set_title(panel.title, fontsize=9)
    figure.legend(
        *axis.get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=4 if len(networks) > 1 else 2,
    )
    style.footnote(
        figure,
        "From ANODE's exact gradient to the continuous adjoint, one fault after another: the "
        "inconsistency of the discretised adjoint, the drift of states solved backwards, "
        "BatchNorm's statistics updated again by the backward solve. Points: pairs of runs of one "
        f"seed; bars: their means.{_left_out(recorded)} {recorded.protocol()}",
    )
    return style.save(figure, folder, f"ablation-{panel.slug}")


def _left_out(recorded: Recorded) -> str:
    runs = recorded.runs[recorded.runs["gradient"].isin([*LADDER, "node-grid"])]
    lost = int((runs["status"] != "ok").sum())
    return f" Left out, since they did not end well: {lost} of {len(runs)} runs." if lost else ""


def _markdown(losses: pd.DataFrame, recorded: Recorded) -> str:
    lines = [
        "| network | scheme | fault | from | to | points lost: mean (min … max) | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    key = ["network", "method", "n_steps", "faults", "without", "with"]
    for (network, method, n_steps, faults, without, with_), group in losses.groupby(
        key, sort=False
    ):
        lost = group["lost"]
        lines.append(
            f"| {style.network_name(network)} | {Panel(method, int(n_steps)).title} | {faults} "
            f"| `{without}` | `{with_}` "
            f"| {lost.mean():+.2f} ({lost.min():+.2f} … {lost.max():+.2f}) | {len(lost)} |"
        )
    return "\n".join(
        [
            "Percentage points of test accuracy, after the last epoch, that each fault of the "
            "continuous adjoint costs: the difference of two runs of one seed.",
            "",
            *lines,
            "",
            f"{recorded.protocol()}{_left_out(recorded)}",
            "",
        ]
    )
