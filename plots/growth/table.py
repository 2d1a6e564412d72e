"""How a training step grows, as tables."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import write_whole
from plots import labels, markdown
from plots.growth.laws import data_path, fit
from plots.growth.sweeps import SWEEPS, by_network, drift, held_fixed

ENOUGH_FOR_A_LAW = 4
"""The number of points that can show that no parabola goes through all of them."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write growth.csv, all fits; data_path.csv; growth.md, both for people."""
    fitted = by_network(rows)
    if fitted.empty:
        return []
    laws, data = fit(fitted), data_path(fitted)
    csv, of_data, text = (folder / n for n in ("growth.csv", "data_path.csv", "growth.md"))
    write_whole(csv, laws.to_csv(index=False))
    write_whole(of_data, data.to_csv(index=False))
    parts = [*_growth(fitted, laws), *_data_path(data), *_out_of_memory(rows)]
    write_whole(text, "\n\n".join(parts) + "\n")
    return [csv, of_data, text]


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
            yield from (_against_steps if sweep == "Nt" else _against)(title, fitted)


def _against_steps(title: str, laws: pd.DataFrame) -> Iterator[str]:
    yield (
        f"{title} Of a fit a + b·Nt + c·Nt² (memory: Nt > 1), the share of c·Nt² at the largest "
        "Nt; below zero: growth is slower than linear. Evaluations of the right-hand side are "
        "counted, forward and backward together: their law is exact."
    )
    yield markdown.table(
        [
            *("gradient method", "time: slope", "time: c·Nt²", "memory: slope", "memory: c·Nt²"),
            *("evaluations", "c·Nt²"),
        ],
        (
            [
                labels.gradient(row["gradient"]),
                _slope(row, "seconds"),
                _share(row, "seconds"),
                f"{row['bytes_slope']:z.2f}",
                _share(row, "bytes"),
                _evaluations(row),
                _percent(row["evaluations_quadratic"]),
            ]
            for row in laws.to_dict("records")
        ),
    )


def _against(title: str, laws: pd.DataFrame) -> Iterator[str]:
    yield title
    yield markdown.table(
        ["gradient method", "time: slope", "memory: slope"],
        (
            [labels.gradient(row["gradient"]), _slope(row, "seconds"), f"{row['bytes_slope']:z.2f}"]
            for row in laws.to_dict("records")
        ),
    )


def _data_path(data: pd.DataFrame) -> Iterator[str]:
    if data.empty:
        return
    yield (
        "Making one augmented batch (gather, crop, flip, normalise), which no step above includes: "
        "its share of a training step, median and quartiles of the quotients round by round."
    )
    yield markdown.table(
        ["network", "images", "ms", "of the step of", "share", "bar", "holds"],
        (
            [
                labels.network(row["network"]),
                row["batch_size"],
                f"{1000 * row['data_seconds']:.2f}",
                labels.gradient(row["gradient"]),
                f"{row['data_share']:.1%} ({row['data_share_low']:.1%}–"
                f"{row['data_share_high']:.1%})",
                *_verdict(row),
            ]
            for row in data.to_dict("records")
        ),
    )


def _verdict(row: Mapping[Any, Any]) -> tuple[str, str]:
    if pd.isna(row["bar"]):
        return "", ""
    return f"≤ {row['bar']:.0%}", "yes" if row["data_share"] <= row["bar"] else "**no**"


def _out_of_memory(rows: pd.DataFrame) -> Iterator[str]:
    for row in rows[rows["status"] != "ok"].to_dict("records"):
        column, _ = SWEEPS[row["sweep"]]
        yield (
            f"{labels.gradient(row['gradient'])} did not fit into memory at {row['sweep']} = "
            f"{row[column] or row['network']}."
        )


def _slope(row: Mapping[Any, Any], quantity: str) -> str:
    return f"{row[f'{quantity}_slope']:z.2f} ± {row[f'{quantity}_slope_error']:.2f}"


def _share(row: Mapping[Any, Any], quantity: str) -> str:
    value = row.get(f"{quantity}_quadratic")
    if value is None or pd.isna(value) or quantity == "bytes":
        return _percent(value)
    return f"{_percent(value)} ± {row[f'{quantity}_quadratic_error']:.0%}"


def _evaluations(row: Mapping[Any, Any]) -> str:
    other = "no polynomial" if row["points"] >= ENOUGH_FOR_A_LAW else "too few Nt for a law"
    return row["evaluations_law"] or f"{other}: slope {row['evaluations_slope']:.2f}"


def _percent(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:z.0%}"
