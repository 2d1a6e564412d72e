"""What a training step costs, as a table, and the bars that it is to stay under."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records.files import write_whole
from plots import style

NETWORKS = ("alexnet", "resnet4", "resnet10", "squeezenext")
SMALL, LARGE = ("alexnet", "resnet4"), ("resnet10", "squeezenext")

AT_MOST = (
    ("anode", dict.fromkeys(NETWORKS, 1.34)),
    ("anode-auto", {**dict.fromkeys(SMALL, 1.03), **dict.fromkeys(LARGE, 1.15)}),
)
"""Gradient method, and for each network the largest ratio of its step's time to backprop's."""

AT_LEAST = (
    ("bench.peers.original:ORIGINAL", "contiguous", {"alexnet": 1.4}, 1.8),
    ("node", "better", {"alexnet": 1.3}, 1.5),
)
"""A peer, its layout or the better of both, and how many times anode-auto's time it takes."""

SCHEME, BATCH = ("rk2", 2), 64
"""What the bars are set for."""

CAPTURED_BAR, CAPTURED_NETWORK, CAPTURED_BATCH = 3.0, "resnet4", 256
"""How many times faster anode-auto's step is as a CUDA graph, for which network and batch."""

UNSEEN = "not measured"


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """bars.csv, the bars and how they are kept; cost.md, everything, for people."""
    measured = rows[rows["reason"] == ""]
    bars = pd.DataFrame(judge(measured[measured["phase"] == "step"]))
    markdown, csv = folder / "cost.md", folder / "bars.csv"
    lines = [*_table(measured), *_compiled(measured), *_failed(rows), *_bars(bars)]
    write_whole(markdown, "\n".join(lines) + "\n")
    write_whole(csv, bars.to_csv(index=False))
    return [csv, markdown]


def judge(whole: pd.DataFrame) -> Iterator[dict[str, object]]:
    """A row for each bar: what, network, measured ratio, the bar, and whether it holds. Bars are
    set for one scheme in float32, for two CPU cores with one batch, and for a GPU with another."""
    for (network, method, n_steps), both in whole.groupby(["network", "method", "n_steps"]):
        if (method, n_steps) != SCHEME or set(both["precision"]) != {"float32"}:
            continue
        where = {"network": network, "scheme": f"{style.method_name(str(method))}, Nt = {n_steps}"}
        if set(both["batch_size"]) == {BATCH} and set(both["device"]) == {"cpu"}:
            yield from _on_a_cpu(both, str(network), where)
        if set(both["batch_size"]) == {CAPTURED_BATCH} and network == CAPTURED_NETWORK:
            auto = both[both["gradient"] == "anode-auto"].set_index("execution")["seconds"]
            if {"eager", "captured"} <= set(auto.index):
                ratio = auto["eager"] / auto["captured"]
                yield _bar(where, "anode-auto, eager / captured", ratio, "≥", CAPTURED_BAR)


def _on_a_cpu(
    own: pd.DataFrame, network: str, where: dict[str, object]
) -> Iterator[dict[str, object]]:
    times = own.set_index(["gradient", "layout"])["seconds"]
    ratios = own.set_index(["gradient", "layout"])["ratio"]  # to backprop, round by round
    peaks = own.set_index(["gradient", "layout"])["peak_bytes"]
    last = "channels_last"
    for gradient, bars in AT_MOST:
        if (gradient, last) in times and network in bars:
            ratio = ratios[gradient, last]
            yield _bar(where, f"{gradient} / backprop", ratio, "≤", bars[network])
    if not {("anode-auto", last), ("anode", last)} <= set(times.index):
        return
    ratio = peaks["anode-auto", last] / peaks["anode", last]
    yield _bar(where, "peak memory of anode-auto / anode", ratio, "≤", 1.0)
    auto = times["anode-auto", last]
    for gradient, layout, special, usual in AT_LEAST:
        if gradient in times.index.get_level_values(0) and network in NETWORKS:
            taken = times[gradient].min() if layout == "better" else times[gradient, layout]
            least = special.get(network, usual)
            what = f"{style.gradient_name(gradient)} ({layout} layout) / anode-auto"
            yield _bar(where, what, taken / auto, "≥", least)
    for row in own.itertuples():
        is_peer = str(row.gradient).startswith("bench.peers.") or "torchdiffeq" in row.gradient
        is_exact = row.gradient_error < 1e-3
        if is_peer and is_exact and row.peak_bytes <= peaks["anode-auto", last]:
            what = f"{style.gradient_name(row.gradient)} ({row.layout}) / anode-auto"
            yield _bar(where, what, row.seconds / auto, "≥", 1.0)


def _bar(
    where: dict[str, object], what: str, ratio: float, sign: str, bar: float
) -> dict[str, object]:
    holds = ratio <= bar if sign == "≤" else ratio >= bar
    return {**where, "what": what, "measured": ratio, "bar": f"{sign} {bar:g}", "holds": holds}


def _table(rows: pd.DataFrame) -> Iterator[str]:
    whole = rows[rows["phase"] == "step"]
    first = whole.iloc[0]
    yield (
        f"One training step of {int(first['batch_size'])} images in {first['precision']} on "
        f"{first['device']}, {int(first['repeats'])} interleaved rounds. Ratio: median and "
        "quartiles of the quotients with backprop's step in the same layout and execution, round "
        "by round. "
        f"Memory: {style.how_counted(first['device'])}."
    )
    yield ""
    yield (
        "| network | scheme | gradient method | layout | run | ms | ratio | forward | backward | "
        + ("optimiser | images/s | MiB | evaluations | gradient error |")
    )
    yield "|" + "---|" * 14
    keys = ["network", "method", "n_steps", "gradient", "layout", "execution"]
    phases = rows.set_index([*keys, "phase"])["seconds"]
    for row in whole.itertuples():
        key = tuple(getattr(row, name) for name in keys)
        apart = " | ".join(
            _milliseconds(phases[(*key, phase)]) if (*key, phase) in phases else "–"
            for phase in ("forward", "backward", "optimizer")
        )
        yield (
            f"{_head(row)} | {row.layout.replace('_', '-')} | {row.execution} | "
            f"{_milliseconds(row.seconds)} | "
            f"{row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f}) | {apart} | "
            f"{row.batch_size / row.seconds:.0f} | {_mebibytes(row.peak_bytes)} | "
            f"{_evaluations(row)} | {row.gradient_error:.1g} |"
        )


def _milliseconds(seconds: float) -> str:
    """Three digits: a step takes a hundred on a CPU, one on a GPU."""
    return f"{1000 * seconds:.{max(0, 2 - math.floor(math.log10(1000 * seconds)))}f}"


def _mebibytes(peak: float) -> str:
    return UNSEEN if pd.isna(peak) else f"{peak / 2**20:.1f}"


def _evaluations(row: Any) -> str:
    if pd.isna(row.nfe_forward):
        return UNSEEN
    return f"{int(row.nfe_forward)} + {int(row.nfe_backward)}"


def _compiled(rows: pd.DataFrame) -> Iterator[str]:
    own = rows[rows["phase"] == "compile"]
    if own.empty:
        return
    yield ""
    yield "Compiled once for each shape before the first step, and not in the times above:"
    yield ""
    yield "| network | scheme | gradient method | seconds of compilation |"
    yield "|---|---|---|---|"
    for row in own.itertuples():
        yield f"{_head(row)} | {row.seconds:.1f} |"


def _failed(rows: pd.DataFrame) -> Iterator[str]:
    own = rows[rows["reason"] != ""]
    if own.empty:
        return
    yield ""
    yield "These could not do the work:"
    yield ""
    yield "| network | scheme | gradient method | layout | why |"
    yield "|---|---|---|---|---|"
    for row in own.itertuples():
        reason = row.reason.replace("|", "\\|")
        yield f"{_head(row)} | {row.layout.replace('_', '-')} | {reason} |"


def _head(row: Any) -> str:
    return (
        f"| {style.network_name(row.network)} | {style.method_name(row.method)}, "
        f"Nt = {row.n_steps} | {style.gradient_name(row.gradient)}"
    )


def _bars(bars: pd.DataFrame) -> Iterator[str]:
    if bars.empty:
        return
    yield ""
    yield "| network | scheme | what | measured | bar | holds |"
    yield "|---|---|---|---|---|---|"
    for bar in bars.itertuples():
        yield (
            f"| {style.network_name(bar.network)} | {bar.scheme} | {bar.what} | "
            f"{bar.measured:.3f} | {bar.bar} | {'yes' if bar.holds else '**no**'} |"
        )
