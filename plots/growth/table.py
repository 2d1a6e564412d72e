"""Tables of the growth of a training step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from plots import labels, markdown
from plots.growth.laws import data_path, fit
from plots.growth.sweeps import SWEEPS, by_network, drift, held_fixed

ENOUGH_FOR_A_LAW = 4
"""The number of points that can show that no parabola goes through all of them."""

_FIT = (
    "Of a fit a + b·Nt + c·Nt² (memory: Nt > 1), the share of c·Nt² at the largest Nt; below zero: "
    "growth is slower than linear. Evaluations of the right-hand side are counted, forward and "
    "backward together: their law is exact."
)
_METHOD: markdown.Columns = {"gradient method": lambda row: labels.gradient(row.gradient)}
_SLOPES: markdown.Columns = {
    "time: slope": lambda row: f"{row.seconds_slope:z.2f} ± {row.seconds_slope_error:z.2f}",
    "memory: slope": lambda row: f"{row.bytes_slope:z.2f}",
}
_AGAINST_STEPS: markdown.Columns = {
    **_METHOD,
    "time: slope": _SLOPES["time: slope"],
    "time: c·Nt²": lambda row: _percent(row.seconds_quadratic, row.seconds_quadratic_error),
    "memory: slope": _SLOPES["memory: slope"],
    "memory: c·Nt²": lambda row: _percent(row.bytes_quadratic),
    "evaluations": lambda row: _evaluations(row),
    "c·Nt²": lambda row: _percent(row.evaluations_quadratic),
}
_DATA_PATH: markdown.Columns = {
    "network": lambda row: labels.network(row.network),
    "images": lambda row: row.batch_size,
    "ms": lambda row: f"{1000 * row.data_seconds:.2f}",
    "of the step of": lambda row: labels.gradient(row.gradient),
    "share": lambda row: (
        f"{row.data_share:.1%} ({row.data_share_low:.1%}–{row.data_share_high:.1%})"
    ),
    "bar": lambda row: "" if pd.isna(row.bar) else f"≤ {row.bar:.0%}",
    "holds": lambda row: (
        "" if pd.isna(row.bar) else "yes" if row.data_share <= row.bar else "**no**"
    ),
}


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write all fits as growth.csv, the data path as data_path.csv, and a summary as growth.md."""
    fitted = by_network(rows)
    if fitted.empty:
        return []
    laws, data = fit(fitted), data_path(fitted)
    paragraphs = [*_growth(fitted, laws), *_data_path(data), *_out_of_memory(rows)]
    return markdown.write(folder, "growth", paragraphs, {"growth": laws, "data_path": data})


def _growth(rows: pd.DataFrame, laws: pd.DataFrame) -> Iterator[str]:
    device = rows.iloc[0]["device"]
    yield (
        f"How one training step grows, on {device}. Slopes are d log / d log over the upper part "
        "of a sweep; ± is a standard error, from the quartiles of the rounds or from the points' "
        "scatter, whichever is larger. Times are in units of a fixed reference step that took "
        f"turns with them; by that step, the machine's speed changed by {drift(rows) - 1:.0%} "
        f"between points. Memory: {labels.how_counted(device)}."
    )
    for (network, method), own in laws.groupby(["network", "method"], sort=False):
        measured = rows[(rows["shown"] == network) & (rows["method"] == method)]
        for sweep, (column, _) in SWEEPS.items():
            fitted, part = own[own["sweep"] == sweep], measured[measured["sweep"] == sweep]
            if fitted.empty:
                continue
            title = (
                f"{labels.network(str(network))}, {labels.method(str(method))}, "
                f"{held_fixed(part)}, against {sweep} = {markdown.listed(part[column])}."
            )
            if sweep == "Nt":
                yield f"{title} {_FIT}"
                shares = ["seconds_quadratic", "seconds_quadratic_error", "bytes_quadratic"]
                columns = dict.fromkeys([*fitted.columns, *shares])
                yield markdown.table(_AGAINST_STEPS, fitted.reindex(columns=[*columns]))
            else:
                yield title
                yield markdown.table({**_METHOD, **_SLOPES}, fitted)


def _data_path(data: pd.DataFrame) -> Iterator[str]:
    if len(data):
        yield (
            "Making one augmented batch (gather, crop, flip, normalise), which no step above "
            "includes: its share of a training step, median and quartiles of the quotients round "
            "by round."
        )
        yield markdown.table(_DATA_PATH, data)


def _out_of_memory(rows: pd.DataFrame) -> Iterator[str]:
    for row in rows[rows["status"] != "ok"].to_dict("records"):
        column, _ = SWEEPS[row["sweep"]]
        yield (
            f"{labels.gradient(row['gradient'])} did not fit into memory at {row['sweep']} = "
            f"{row[column] or row['network']}."
        )


def _evaluations(row: Any) -> str:
    other = "no polynomial" if row.points >= ENOUGH_FOR_A_LAW else "too few Nt for a law"
    return row.evaluations_law or f"{other}: slope {row.evaluations_slope:.2f}"


def _percent(value: Any, error: Any = None) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{value:z.0%}" + ("" if error is None else f" ± {error:.0%}")
