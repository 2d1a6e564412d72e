"""Laws of a training step's growth: slopes, quadratic terms, counts, and the data path."""

import numpy as np
import pandas as pd

from plots.growth.fits import exact_law, parabola, relative_error, slope
from plots.growth.sweeps import SWEEPS

AT_MOST = {"cpu": 0.05, "cuda": 0.02}
"""Device → the largest share of a training step that making its batch may take."""
BAR_IMAGES, BAR_NETWORK = 256, "resnet4"
MEASURED = {"seconds": "relative", "bytes": "peak_bytes"}
"""Quantity → the column: times in units of the reference step, without the machine's drift."""
COMPARED_WITH_DATA = ("backprop", "anode")


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each network × scheme × sweep × gradient method that has two points or more.

    seconds_slope and bytes_slope: d log / d log over the upper part of the sweep. For Nt also the
    parabola a + b·Nt + c·Nt², with `quadratic`, the share of c·Nt² at the largest Nt. Seconds are
    in units of the reference step's. evaluations: forward and backward, at the largest Nt;
    evaluations_law: the polynomial through all counts exactly, or "". `_error`: standard error.
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
            line[f"{quantity}_slope"], line[f"{quantity}_slope_error"] = slope(x, y, spread)
            if sweep == "Nt":
                # A single step has nothing to checkpoint: its memory follows no law of the others.
                of_law = x > 1 if quantity == "bytes" else x > 0
                law = parabola(x[of_law], y[of_law], spread[of_law])
                line |= {f"{quantity}_{name}": value for name, value in law.items()}
        if sweep == "Nt":
            line |= _evaluations(own)
        found.append(line)
    return pd.DataFrame(found)


def _evaluations(own: pd.DataFrame) -> dict[str, object]:
    steps = own["n_steps"].tolist()
    total = own["nfe_forward"] + own["nfe_backward"]
    law = exact_law(steps, total.tolist())
    share = law and float(law[2] * steps[-1] ** 2 / int(total.iloc[-1]))
    x, y = own["n_steps"].to_numpy(float), total.to_numpy(float)
    rest, _ = slope(x, y, np.zeros_like(x))
    return {
        "evaluations": int(total.iloc[-1]),
        "evaluations_slope": rest,
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
    """The time of making an augmented batch, as a share of the steps of COMPARED_WITH_DATA, at each
    batch size; with the bar if there is one."""
    own = rows[(rows["sweep"] == "batch size") & rows["gradient"].isin(COMPARED_WITH_DATA)]
    own = own.sort_values("batch_size", kind="stable")
    is_judged = (own["batch_size"] == BAR_IMAGES) & (own["shown"] == BAR_NETWORK)
    case = ["shown", "method", "n_steps", "batch_size", "device", "gradient"]
    measured = ["data_seconds", "data_share", "data_share_low", "data_share_high"]
    found = own[[*case, *measured]].rename(columns={"shown": "network"})
    return found.assign(bar=own["device"].map(AT_MOST).where(is_judged))
