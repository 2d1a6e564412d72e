"""Gradients in low precision: error, memory and time of each gradient method and precision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from plots import drawing, labels, markdown

PRECISIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {"color": "#000000", "marker": "o"}),
    "tf32": ("TF32", {"color": "#999933", "marker": "P"}),
    "bfloat16": ("bfloat16 autocast", {"color": "#D55E00", "marker": "s"}),
    "float16": ("float16 autocast", {"color": "#56B4E9", "marker": "v"}),
    "float16-scaled": ("float16 autocast, scaled loss", {"color": "#0072B2", "marker": "^"}),
}
QUANTITIES = {
    "error": "gradient error",
    "memory": "memory ÷ backprop's",
    "ratio": "time ÷ backprop's",
}
_SCHEME = ["network", "method", "n_steps", "batch_size", "seed"]


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each scheme and seed: a row for each network, a column for error, memory and
    time, a line for each gradient method."""
    files: list[Path] = []
    measured = _with_memory(rows[rows["reason"] == ""])
    for (method, n_steps, seed), part in measured.groupby(["method", "n_steps", "seed"]):
        networks = list(part["network"].unique())
        gradients = list(part["gradient"].unique())
        figure, axes = drawing.subplots(
            *(len(networks), len(QUANTITIES)),
            height=0.7 + (0.4 + 0.17 * len(gradients)) * len(networks),
            sharex="col",
            sharey=True,
        )
        for line, network in zip(axes, networks, strict=True):
            line[0].set_ylabel(labels.network(network))
            for axis, quantity in zip(line, QUANTITIES, strict=True):
                _panel(axis, part[part["network"] == network], gradients, quantity)
        for axis, name in zip(axes[-1], QUANTITIES.values(), strict=True):
            axis.set_xlabel(name)
        shown = [look for name, look in PRECISIONS.items() if name in set(part["precision"])]
        drawing.legend(
            figure, [(Line2D([], [], linestyle="none", **look), name) for name, look in shown]
        )
        first = part.iloc[0]
        drawing.caption(
            figure,
            f"{labels.scheme(str(method), n_steps)}, initial weights, seed {seed}, "
            f"{first['batch_size']} images on {first['device']}. Error: distance from backprop's "
            "gradient in float64 over its norm, all parameters. Mixed precision lowers f alone, "
            "and the precision shown is that of the rest of the network. Memory and time of a "
            "forward and a backward pass, over backprop's in float32; time: medians and quartiles "
            f"of quotients, round by round. Memory: {labels.how_counted(first['device'])}.",
        )
        files += drawing.save(figure, folder, f"low_precision-{method}-nt{n_steps}-seed{seed}")
    return files


def draw_table(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write low_precision.md: all numbers, and why some could not be measured."""
    columns: markdown.Columns = {
        "network": lambda row: labels.network(row["network"]),
        "scheme": lambda row: labels.scheme(row["method"], row["n_steps"]),
        "seed": lambda row: row["seed"],
        "gradient method": lambda row: labels.gradient(row["gradient"]),
        "precision": lambda row: PRECISIONS[row["precision"]][0],
    }
    numbers: markdown.Columns = {
        "error": markdown.value("error", ".2g"),
        "cosine": markdown.value("cosine", ".4f"),
        "error against itself in float64": markdown.value("rounding", ".2g"),
        "MiB": lambda row: f"{row['peak_bytes'] / drawing.MEBIBYTE:.1f}",
        "memory": markdown.value("memory", ".2f"),
        "time": lambda row: f"{row['ratio']:.2f} ({row['ratio_low']:.2f}–{row['ratio_high']:.2f})",
    }
    measured = _with_memory(rows[rows["reason"] == ""])
    failed = rows[rows["reason"] != ""]
    paragraphs = [
        "Gradients in all parameters at initial weights. Error and cosine: against backprop's in "
        "float64. Memory and time: divided by backprop's in float32; time: median and quartiles.",
        markdown.table({**columns, **numbers}, measured.to_dict("records")),
    ]
    if len(failed):
        why: markdown.Columns = {"why": lambda row: row["reason"]}
        paragraphs += [
            "Not measured:",
            markdown.table({**columns, **why}, failed.to_dict("records")),
        ]
    return markdown.write(folder, "low_precision", paragraphs, {})


def _panel(axis: Any, rows: pd.DataFrame, gradients: list[str], quantity: str) -> None:
    axis.set_yticks(range(len(gradients)), [labels.gradient(name) for name in gradients])
    axis.set_ylim(len(gradients) - 0.5, -0.5)
    if quantity != "memory":
        axis.set_xscale("log")
        axis.minorticks_off()
    for number, (name, (_, look)) in enumerate(PRECISIONS.items()):
        own = rows[rows["precision"] == name]
        at = [gradients.index(gradient) + 0.15 * (number - 2) for gradient in own["gradient"]]
        spread = None
        if quantity == "ratio":
            spread = [own["ratio"] - own["ratio_low"], own["ratio_high"] - own["ratio"]]
        axis.errorbar(
            own[quantity], at, xerr=spread, linestyle="none", markersize=4, elinewidth=0.8, **look
        )


def _with_memory(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column "memory": peak memory over that of backprop in float32."""
    is_base = (rows["gradient"] == "backprop") & (rows["precision"] == "float32")
    base = rows[is_base].set_index(_SCHEME)["peak_bytes"].rename("base")
    joined = rows.join(base, on=_SCHEME)
    return joined.assign(memory=joined["peak_bytes"] / joined["base"]).drop(columns="base")
