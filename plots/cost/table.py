"""The cost of a training step as a table, with the bars."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from plots import labels, markdown
from plots.cost.bars import judge
from plots.cost.recomputation import cost_of_recomputation

NOT_MEASURED = "not measured"
_CASE: markdown.Columns = {
    "network": lambda row: labels.network(row.network),
    "scheme": lambda row: labels.scheme(row.method, row.n_steps),
}
_METHOD: markdown.Columns = {"gradient method": lambda row: labels.gradient(row.gradient)}
_FORMAT: markdown.Columns = {"memory format": lambda row: labels.memory_format(row.memory_format)}
_STEPS: markdown.Columns = {
    **{**_CASE, **_METHOD, **_FORMAT},
    "run": lambda row: row.execution,
    "ms": lambda row: _milliseconds(row.seconds),
    "ratio": lambda row: f"{row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f})",
    "forward": lambda row: _milliseconds(row.forward),
    "backward": lambda row: _milliseconds(row.backward),
    "optimiser": lambda row: _milliseconds(row.optimizer),
    "images/s": lambda row: f"{row.batch_size / row.seconds:.0f}",
    "MiB": lambda row: NOT_MEASURED if pd.isna(row.peak_bytes) else f"{row.peak_bytes / 2**20:.1f}",
    "evaluations": lambda row: (
        NOT_MEASURED
        if pd.isna(row.nfe_forward)
        else f"{int(row.nfe_forward)} + {int(row.nfe_backward)}"
    ),
    "gradient error": lambda row: f"{row.gradient_error:.1g}",
}
_AGAIN: markdown.Columns = {
    **{**_CASE, **_FORMAT},
    "run": lambda row: row.execution,
    "backward ÷ forward": lambda row: f"{1 / (row.again - 1) - 1:.2f}",
    "(2F + B) ÷ (F + B)": lambda row: f"{row.again:.2f}",
}
_BARS: markdown.Columns = {
    "network": lambda bar: labels.network(bar.network),
    "scheme": lambda bar: bar.scheme,
    "what": lambda bar: bar.what,
    "measured": lambda bar: f"{bar.measured:.3f}",
    "bar": lambda bar: bar.bar,
    "holds": lambda bar: "yes" if bar.holds else "**no**",
}


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write bars.csv, the bars and whether they hold, and cost.md, everything for people."""
    measured = rows[rows["reason"] == ""]
    bars = pd.DataFrame(judge(measured))
    return markdown.write(folder, "cost", _markdown(rows, measured, bars), {"bars": bars})


def _markdown(rows: pd.DataFrame, measured: pd.DataFrame, bars: pd.DataFrame) -> Iterator[str]:
    first, steps = measured.iloc[0], measured[measured["phase"] == "step"]
    sizes, rounds = (
        " or ".join(f"{n:g}" for n in sorted(steps[name].unique()))
        for name in ("batch_size", "repeats")
    )
    yield (
        f"One training step of {sizes} images in {first['precision']} on {first['device']}, "
        f"{rounds} interleaved rounds. Ratio: median and "
        "quartiles of the quotients with backprop's step in the same memory format and execution, "
        f"round by round. Memory: {labels.how_counted(first['device'])}."
    )
    case = ["network", "method", "n_steps", "memory_format", "execution"]
    parts = measured.pivot(index=[*case, "gradient"], columns="phase", values="seconds")
    parts = parts.reindex(columns=["forward", "backward", "optimizer"])
    yield markdown.table(_STEPS, steps.merge(parts, on=[*case, "gradient"], how="left"))
    yield (
        "The cost of running the forward pass again, from backprop's seconds forward (F) and "
        "backward (B):"
    )
    costs = [(*key, cost_of_recomputation(own)) for key, own in measured.groupby(case, sort=False)]
    yield markdown.table(_AGAIN, pd.DataFrame(costs, columns=[*case, "again"]).dropna())
    compiled = measured[measured["phase"] == "compile"]
    if len(compiled):
        yield "Compiled once for each shape before the first step, and not in the times above:"
        seconds: markdown.Columns = {"seconds of compilation": lambda row: f"{row.seconds:.1f}"}
        yield markdown.table({**_CASE, **_METHOD, **seconds}, compiled)
    failed = rows[rows["reason"] != ""]
    if len(failed):
        yield "Not measured:"
        why: markdown.Columns = {"why": lambda row: row.reason.replace("|", "\\|")}
        yield markdown.table({**_CASE, **_METHOD, **_FORMAT, **why}, failed)
    if len(bars):
        yield "The bars, which are ratios that a method may not exceed, or must reach:"
        yield markdown.table(_BARS, bars)


def _milliseconds(seconds: float) -> str:
    """Three digits, since a step takes a hundred on a CPU and one on a GPU."""
    if pd.isna(seconds):
        return "–"
    return f"{1000 * seconds:.{max(0, 2 - math.floor(math.log10(1000 * seconds)))}f}"
