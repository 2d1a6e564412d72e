"""The bars: how much time and memory `anode-auto` may need, and whether it keeps to them."""

from collections.abc import Iterator

import pandas as pd

from plots import labels
from plots.cost.recomputation import cost_of_recomputation

PLANNED_AT_MOST = {"alexnet": 1.03, "resnet4": 1.03, "resnet10": 1.15, "squeezenext": 1.15}
"""Network → the largest ratio of anode-auto's step to backprop's. anode's bar is no constant: it
is the cost of running the forward pass again, from backprop's own seconds."""

AT_LEAST = (
    ("bench.peers.original:ORIGINAL", {"alexnet": 1.4}, 1.8),
    ("node", {"alexnet": 1.3}, 1.5),
)
"""A gradient method, and the least ratio of its time to anode-auto's in the same memory format:
for some networks, and for the others of PLANNED_AT_MOST."""

SCHEME, BATCH = ("rk2", 2), 64
"""The bars hold for this scheme and, on a CPU, batch size."""

CAPTURED_AT_LEAST, CAPTURED_NETWORK, CAPTURED_BATCH = 3.0, "resnet4", 256
"""The least speed-up of anode-auto's step by a CUDA graph, and the network and batch size."""

EXACT = 1e-3
"""Gradient errors below this are those of a peer that computes the same gradient."""


def judge(rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield a row for each bar: network, scheme, what, measured ratio, bar, and whether it holds.

    Bars exist for one scheme in float32, for a CPU with one batch size and a GPU with another.
    """
    for (network, method, n_steps), own in rows.groupby(["network", "method", "n_steps"]):
        if (method, n_steps) != SCHEME or set(own["precision"]) != {"float32"}:
            continue
        where = {"network": network, "scheme": labels.scheme(str(method), n_steps)}
        if set(own["batch_size"]) == {BATCH} and set(own["device"]) == {"cpu"}:
            for memory_format, part in own.groupby("memory_format", sort=False):
                for what, ratio, sign, bar in _on_a_cpu(part, str(network)):
                    what = f"{what} ({labels.memory_format(str(memory_format))})"
                    yield where | _bar(what, ratio, sign, bar)
        if set(own["batch_size"]) == {CAPTURED_BATCH} and network == CAPTURED_NETWORK:
            steps = own[(own["gradient"] == "anode-auto") & (own["phase"] == "step")]
            auto = steps.set_index("execution")["seconds"]
            if {"eager", "captured"} <= set(auto.index):
                ratio = auto["eager"] / auto["captured"]
                yield where | _bar("anode-auto, eager / captured", ratio, "≥", CAPTURED_AT_LEAST)


def _on_a_cpu(own: pd.DataFrame, network: str) -> Iterator[tuple[str, float, str, float]]:
    """The bars of one network and memory format: what, measured ratio, sign, bar."""
    steps = own[own["phase"] == "step"].set_index("gradient")
    ratios, peaks = steps["ratio"], steps["peak_bytes"]  # ratios to backprop, round by round
    recomputed = cost_of_recomputation(own)
    if "anode" in steps.index and recomputed is not None:
        yield "anode / backprop", ratios["anode"], "≤", recomputed
    if "anode-auto" not in steps.index:
        return
    if network in PLANNED_AT_MOST:
        yield "anode-auto / backprop", ratios["anode-auto"], "≤", PLANNED_AT_MOST[network]
    if "anode" in steps.index:
        yield "peak memory of anode-auto / anode", peaks["anode-auto"] / peaks["anode"], "≤", 1.0
    auto = steps.loc["anode-auto"]
    for gradient, special, usual in AT_LEAST:
        if gradient in steps.index and network in PLANNED_AT_MOST:
            ratio = ratios[gradient] / auto["ratio"]  # seconds drift from round to round
            least = special.get(network, usual)
            yield f"{labels.gradient(gradient)} / anode-auto", ratio, "≥", least
    for row in steps.reset_index().itertuples():
        is_peer = str(row.gradient).startswith("bench.peers.") or "torchdiffeq" in row.gradient
        if is_peer and row.gradient_error < EXACT and row.peak_bytes <= auto["peak_bytes"]:
            ratio = row.ratio / auto["ratio"]
            yield f"{labels.gradient(row.gradient)} / anode-auto", ratio, "≥", 1.0


def _bar(what: str, ratio: float, sign: str, bar: float) -> dict[str, object]:
    holds = ratio <= bar if sign == "≤" else ratio >= bar
    return {"what": what, "measured": ratio, "bar": f"{sign} {bar:.4g}", "holds": holds}
