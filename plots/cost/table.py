"""What a training step costs, as a table, and the bars that it is to stay under."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records.files import write_whole
from plots import style
from plots.cost.time_and_memory import cost_of_running_again

NETWORKS = ("alexnet", "resnet4", "resnet10", "squeezenext")
SMALL, LARGE = ("alexnet", "resnet4"), ("resnet10", "squeezenext")

PLANNED_AT_MOST = {**dict.fromkeys(SMALL, 1.03), **dict.fromkeys(LARGE, 1.15)}
"""For each network the largest ratio of anode-auto's step to backprop's. anode's is not a constant:
it is the cost of running the forward pass again, from backprop's own seconds."""

AT_LEAST = (
    ("bench.peers.original:ORIGINAL", {"alexnet": 1.4}, 1.8),
    ("node", {"alexnet": 1.3}, 1.5),
)
"""A peer, and how many times anode-auto's time it takes in the same layout."""

SCHEME, BATCH = ("rk2", 2), 64
"""What the bars are set for."""

CAPTURED_BAR, CAPTURED_NETWORK, CAPTURED_BATCH = 3.0, "resnet4", 256
"""How many times faster anode-auto's step is as a CUDA graph, for which network and batch."""

UNSEEN = "not measured"


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """bars.csv, the bars and how they are kept; cost.md, everything, for people."""
    measured = rows[rows["reason"] == ""]
    bars = pd.DataFrame(judge(measured))
    markdown, csv = folder / "cost.md", folder / "bars.csv"
    lines = [
        *(*_table(measured), *_again(measured), *_compiled(measured)),
        *(*_failed(rows), *_bars(bars)),
    ]
    write_whole(markdown, "\n".join(lines) + "\n")
    write_whole(csv, bars.to_csv(index=False))
    return [csv, markdown]


def judge(rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    """A row for each bar: what, network, measured ratio, the bar, and whether it holds. Bars are
    set for one scheme in float32, for two CPU cores with one batch, and for a GPU with another."""
    for (network, method, n_steps), own in rows.groupby(["network", "method", "n_steps"]):
        if (method, n_steps) != SCHEME or set(own["precision"]) != {"float32"}:
            continue
        where = {"network": network, "scheme": f"{style.method_name(str(method))}, Nt = {n_steps}"}
        if set(own["batch_size"]) == {BATCH} and set(own["device"]) == {"cpu"}:
            for layout, part in own.groupby("layout", sort=False):
                yield from _on_a_cpu(part, str(network), str(layout).replace("_", "-"), where)
        if set(own["batch_size"]) == {CAPTURED_BATCH} and network == CAPTURED_NETWORK:
            steps = own[(own["gradient"] == "anode-auto") & (own["phase"] == "step")]
            auto = steps.set_index("execution")["seconds"]
            if {"eager", "captured"} <= set(auto.index):
                ratio = auto["eager"] / auto["captured"]
                yield _bar(where, "anode-auto, eager / captured", ratio, "≥", CAPTURED_BAR)


def _on_a_cpu(
    own: pd.DataFrame, network: str, layout: str, where: dict[str, object]
) -> Iterator[dict[str, object]]:
    """The bars of one network and layout."""
    steps = own[own["phase"] == "step"].set_index("gradient")
    ratios, peaks = steps["ratio"], steps["peak_bytes"]  # ratios to backprop, round by round
    again = cost_of_running_again(own)
    if "anode" in steps.index and again is not None:
        yield _bar(where, f"anode / backprop ({layout})", ratios["anode"], "≤", again)
    if "anode-auto" not in steps.index:
        return
    if network in PLANNED_AT_MOST:
        least = PLANNED_AT_MOST[network]
        yield _bar(where, f"anode-auto / backprop ({layout})", ratios["anode-auto"], "≤", least)
    if "anode" in steps.index:
        ratio = peaks["anode-auto"] / peaks["anode"]
        yield _bar(where, f"peak memory of anode-auto / anode ({layout})", ratio, "≤", 1.0)
    auto = steps.loc["anode-auto"]
    for gradient, special, usual in AT_LEAST:
        if gradient in steps.index and network in NETWORKS:
            least = special.get(network, usual)
            what = f"{style.gradient_name(gradient)} / anode-auto ({layout})"
            yield _bar(where, what, steps["seconds"][gradient] / auto["seconds"], "≥", least)
    for row in steps.reset_index().itertuples():
        is_peer = str(row.gradient).startswith("bench.peers.") or "torchdiffeq" in row.gradient
        is_exact = row.gradient_error < 1e-3
        if is_peer and is_exact and row.peak_bytes <= auto["peak_bytes"]:
            what = f"{style.gradient_name(row.gradient)} / anode-auto ({layout})"
            yield _bar(where, what, row.seconds / auto["seconds"], "≥", 1.0)


def _bar(
    where: dict[str, object], what: str, ratio: float, sign: str, bar: float
) -> dict[str, object]:
    holds = ratio <= bar if sign == "≤" else ratio >= bar
    return {**where, "what": what, "measured": ratio, "bar": f"{sign} {bar:.4g}", "holds": holds}


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


def _again(rows: pd.DataFrame) -> Iterator[str]:
    keys = ["network", "method", "n_steps", "layout", "execution"]
    found = [(own.iloc[0], cost_of_running_again(own)) for _, own in rows.groupby(keys, sort=False)]
    yield ""
    yield (
        "The cost of running the forward pass again, from backprop's seconds forward (F) and "
        "backward (B):"
    )
    yield ""
    yield "| network | scheme | layout | run | backward ÷ forward | (2F + B) ÷ (F + B) |"
    yield "|---|---|---|---|---|---|"
    for row, again in found:
        if again is not None:
            yield (
                f"| {style.network_name(row['network'])} | {style.method_name(row['method'])}, "
                f"Nt = {row['n_steps']} | {row['layout'].replace('_', '-')} | {row['execution']} | "
                f"{1 / (again - 1) - 1:.2f} | {again:.2f} |"
            )


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
