"""How a training step grows, in numbers: slopes, quadratic terms, counts, and the data path."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from bench.records.files import write_whole
from plots import style
from plots.growth.curves import SWEEPS, by_network, drift, held_fixed
from plots.growth.fits import Estimate, Parabola, exact_law, parabola, relative_error, slope

AT_MOST = {"cpu": 0.05, "cuda": 0.02}
"""The share of a training step that making its batch may take, on a device."""
BAR_IMAGES, BAR_NETWORK = 256, "resnet4"
MEASURED = {"seconds": "relative", "bytes": "peak_bytes"}
"""Quantity → the column: times in units of the yardstick, by which the machine's drift is out."""
ENOUGH_FOR_A_LAW = 4
"""Points by which it can be told that no parabola goes through all of them."""
COMPARED_WITH_DATA = ("backprop", "anode")


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """growth.csv, all that is fitted; data_path.csv; growth.md, both for people."""
    fitted = by_network(rows)
    if fitted.empty:
        return []
    laws, data = fit(fitted), data_path(fitted)
    csv, of_data, markdown = (folder / f"{n}" for n in ("growth.csv", "data_path.csv", "growth.md"))
    write_whole(csv, laws.to_csv(index=False))
    write_whole(of_data, data.to_csv(index=False))
    text = [*_markdown(fitted, laws), *_data_markdown(data), *_missing(rows)]
    write_whole(markdown, "\n".join([*text, ""]))
    return [csv, of_data, markdown]


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each network × scheme × sweep × gradient method that has two points or more.

    seconds_slope and bytes_slope: d log / d log over the upper part of the sweep. For Nt also the
    parabola a + b·Nt + c·Nt² fitted to either, with `quadratic`, the share c·Nt² ÷ (the measured
    value) at the largest Nt. Seconds are in units of the yardstick's. evaluations: how many there
    are at the largest Nt, forward and backward together; evaluations_law: the polynomial in Nt
    that goes through all counts exactly, or nothing. `_error` is a standard error.
    """
    found = []
    keys = ["shown", "method", "sweep", "gradient"]
    for (network, method, sweep, gradient), unsorted in rows.groupby(keys, sort=False):
        column, _ = SWEEPS[str(sweep)]
        own = unsorted.sort_values(column)
        if len(own) < 2:
            continue
        x = own[column].to_numpy(float)
        error = relative_error(
            *(own[name].to_numpy(float) for name in ("low", "relative", "high", "repeats"))
        )
        line: dict[str, object] = {
            **{"network": network, "method": method, "sweep": sweep, "gradient": gradient},
            **{"points": len(own), "largest": int(x[-1])},
        }
        # On the CPU bytes are exact; CUDA's allocator rounds, which the scatter shows.
        for quantity, spread in (("seconds", error), ("bytes", np.zeros_like(x))):
            y = own[MEASURED[quantity]].to_numpy(float)
            line |= _named(quantity, slope(x, y, spread))
            if sweep == "Nt":
                # A single step has nothing to checkpoint: its memory follows no law of the others.
                of_law = x > 1 if quantity == "bytes" else x > 0
                found_law = parabola(x[of_law], y[of_law], spread[of_law])
                line |= _named_parabola(quantity, found_law)
        if sweep == "Nt":
            line |= _evaluations(own)
        found.append(line)
    return pd.DataFrame(found)


def _named(quantity: str, found: Estimate) -> dict[str, object]:
    return {f"{quantity}_slope": found.value, f"{quantity}_slope_error": found.error}


def _named_parabola(quantity: str, found: Parabola | None) -> dict[str, object]:
    if found is None:
        return {}
    return {
        **{f"{quantity}_a": found.a, f"{quantity}_b": found.b, f"{quantity}_c": found.c},
        f"{quantity}_quadratic": found.share.value,
        f"{quantity}_quadratic_error": found.share.error,
        f"{quantity}_misfit": found.misfit,
    }


def _evaluations(own: pd.DataFrame) -> dict[str, object]:
    steps = own["n_steps"].tolist()
    total = own["nfe_forward"] + own["nfe_backward"]
    law = exact_law(steps, total.tolist())
    share = law and float(law[2] * steps[-1] ** 2 / int(total.iloc[-1]))
    rest = slope(own["n_steps"].to_numpy(float), total.to_numpy(float), np.zeros(len(own)))
    return {
        "evaluations": int(total.iloc[-1]),
        "evaluations_slope": rest.value,
        "evaluations_law": _polynomial(law) if law else "",
        "evaluations_quadratic": share,
    }


def _polynomial(law: tuple[object, ...]) -> str:
    terms = [
        power if value == 1 and power else f"{value}·{power}" if power else f"{value}"
        for value, power in zip(reversed(law), ("Nt²", "Nt", ""), strict=True)
        if value
    ]
    return " + ".join(terms).replace("+ -", "− ") or "0"


def data_path(rows: pd.DataFrame) -> pd.DataFrame:
    """What making an augmented batch takes, of the steps of COMPARED_WITH_DATA, at each batch size;
    the bar stands where it was set."""
    own = rows[(rows["sweep"] == "batch size") & rows["gradient"].isin(COMPARED_WITH_DATA)]
    own = own.sort_values("batch_size", kind="stable")
    is_judged = (own["batch_size"] == BAR_IMAGES) & (own["shown"] == BAR_NETWORK)
    return pd.DataFrame(
        {
            "network": own["shown"],
            **{n: own[n] for n in ("method", "n_steps", "batch_size", "device", "gradient")},
            **{n: own[n] for n in ("data_seconds", "data_share", "data_share_low")},
            "data_share_high": own["data_share_high"],
            "bar": own["device"].map(AT_MOST).where(is_judged),
        }
    )


def _markdown(rows: pd.DataFrame, laws: pd.DataFrame) -> Iterator[str]:
    device = rows.iloc[0]["device"]
    yield (
        f"How one training step grows, on {device}. Slopes are d log / d log over the upper part "
        "of a sweep; ± is a standard error, from the quartiles of the rounds or from the points' "
        f"scatter, whichever is larger. Times are in units of a fixed step that took turns with "
        f"them; the machine's speed, by that step, moved by {drift(rows) - 1:.0%} from point to "
        f"point. Memory: {style.how_counted(device)}."
    )
    for (network, method), own in laws.groupby(["network", "method"], sort=False):
        measured = rows[(rows["shown"] == network) & (rows["method"] == method)]
        title = f"{style.network_name(str(network))}, {style.method_name(str(method))}"
        steps = own[own["sweep"] == "Nt"]
        if len(steps):
            yield from _against_steps(title, steps, measured[measured["sweep"] == "Nt"])
        for sweep in ("batch size", "width"):
            others = own[own["sweep"] == sweep]
            if len(others):
                yield from _against(title, sweep, others, measured[measured["sweep"] == sweep])


def _against_steps(title: str, laws: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    yield ""
    yield (
        f"{title}, {held_fixed(rows)}, against Nt = {_listed(rows['n_steps'])}. Of a fit "
        "a + b·Nt + c·Nt² (memory: Nt > 1), the share of c·Nt² at the largest Nt; below zero: it "
        "grows more slowly than linearly. Evaluations of the right-hand side are counted, forward "
        "and backward together: their law is exact."
    )
    yield ""
    yield (
        "| gradient method | time: slope | time: c·Nt² | memory: slope | memory: c·Nt² | "
        "evaluations | c·Nt² |"
    )
    yield "|---|---|---|---|---|---|---|"
    for row in laws.to_dict("records"):
        other = "no polynomial" if row["points"] >= ENOUGH_FOR_A_LAW else "too few Nt for a law"
        law = row["evaluations_law"] or f"{other}: slope {row['evaluations_slope']:.2f}"
        cells = [
            style.gradient_name(row["gradient"]),
            _slope(row, "seconds"),
            _share(row, "seconds"),
            f"{row['bytes_slope']:.2f}",
            _share(row, "bytes"),
            law,
            _percent(row["evaluations_quadratic"]),
        ]
        yield f"| {' | '.join(cells)} |"


def _against(title: str, sweep: str, laws: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    column, _ = SWEEPS[sweep]
    yield ""
    yield f"{title}, {held_fixed(rows)}, against {sweep} = {_listed(rows[column])}."
    yield ""
    yield "| gradient method | time: slope | memory: slope |"
    yield "|---|---|---|"
    for row in laws.to_dict("records"):
        name = style.gradient_name(row["gradient"])
        yield f"| {name} | {_slope(row, 'seconds')} | {row['bytes_slope']:.2f} |"


def _data_markdown(data: pd.DataFrame) -> Iterator[str]:
    if data.empty:
        return
    yield ""
    yield (
        "Making one augmented batch (gather, crop, flip, normalise), which no step above includes: "
        "its share of a training step, median and quartiles of the quotients round by round."
    )
    yield ""
    yield "| network | images | ms | of the step of | share | bar | holds |"
    yield "|---|---|---|---|---|---|---|"
    for row in data.to_dict("records"):
        holds = "yes" if row["data_share"] <= row["bar"] else "**no**"
        judged = f"≤ {row['bar']:.0%} | {holds}" if row["bar"] == row["bar"] else "|"
        yield (
            f"| {style.network_name(row['network'])} | {row['batch_size']} | "
            f"{1000 * row['data_seconds']:.2f} | {style.gradient_name(row['gradient'])} | "
            f"{row['data_share']:.1%} ({row['data_share_low']:.1%}–{row['data_share_high']:.1%}) "
            f"| {judged} |"
        )


def _missing(rows: pd.DataFrame) -> Iterator[str]:
    lost = rows[rows["status"] != "ok"]
    if len(lost):
        yield ""
    for row in lost.to_dict("records"):
        column, _ = SWEEPS[row["sweep"]]
        yield (
            f"{style.gradient_name(row['gradient'])} did not fit into memory at {row['sweep']} = "
            f"{row[column] or row['network']}."
        )


def _slope(row: dict[str, object], quantity: str) -> str:
    return f"{row[f'{quantity}_slope']:.2f} ± {row[f'{quantity}_slope_error']:.2f}"


def _share(row: dict[str, object], quantity: str) -> str:
    value = row.get(f"{quantity}_quadratic")
    if value is None or value != value:
        return "–"
    error = row[f"{quantity}_quadratic_error"]
    return _percent(value) + (f" ± {error:.0%}" if quantity == "seconds" else "")


def _percent(value: object) -> str:
    if value is None or value != value:
        return "–"
    return f"{float(str(value)) + 0.0:.0%}".replace("-0%", "0%")


def _listed(values: "pd.Series[int]") -> str:
    return ", ".join(str(value) for value in sorted(values.unique()))
