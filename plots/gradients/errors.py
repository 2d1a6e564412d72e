"""Gradient errors as the figures and the table of this folder use them."""

import numpy as np
import pandas as pd

from plots import labels

ROUNDING = {"float64": 1e-12, "float32": 1e-6}
"""Precision → errors below this are rounding."""
OTHER_SCHEME = "reversible"
"""The method whose reference, backprop, has another forward pass."""


def unmodified_networks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of networks with their own activation and scale."""
    return rows[(rows["activation"] == "relu") & (rows["scale"] == 1)]


def observed_order(rows: pd.DataFrame) -> float | None:
    """-d log(error) / d log(Nt) over the four largest Nt that have errors; None below three."""
    last = rows[rows["error"] > ROUNDING["float64"]].sort_values("n_steps").tail(4)
    if len(last) < 3:
        return None
    return float(-np.polyfit(np.log(last["n_steps"]), np.log(last["error"]), 1)[0])


def with_floor(rows: pd.DataFrame, precision: str, floor: float) -> pd.DataFrame:
    """Add the column `shown`: the error, or `floor` where it is rounding or zero."""
    return rows.assign(shown=rows["error"].where(rows["error"] > ROUNDING[precision], floor))


def about_other_schemes(rows: pd.DataFrame) -> str:
    """Sentences for the caption on methods in these rows whose forward pass is not the scheme's."""
    gradients = rows["gradient"].unique()
    found = ""
    for name in gradients:
        if name.partition(":")[0] == OTHER_SCHEME:
            found += (
                f" {labels.gradient(name)}: gradient of another discretisation, so the curve is "
                "the distance from backprop's gradient."
            )
    if any("rk45" in name for name in gradients):
        found += " Adaptive RK45: against backprop through its own accepted steps, whatever Nt."
    return found
