"""What the figures of the suite reversibility share: names, colours, steps that an error needs."""

import numpy as np
import pandas as pd

from plots import style

SCHEME_NAMES = {
    **style.METHOD_NAMES,
    "reversible": "Reversible pair over Euler",
    "rk45": "RK45, adaptive",
    "rk45_relative": "RK45, relative tolerance",
}
PROBLEM_NAMES = {
    "linear-100": "dz/dt = −100 z",
    "linear-10000": "dz/dt = −10⁴ z",
    "relu-decay": "dz/dt = −max(0, 10 z)",
    "gaussian": "dz/dt = max(0, W z)",
    "gaussian-unit": "dz/dt = max(0, W z), ‖W‖₂ = 1",
    "convolution": "dz/dt = ReLU(conv z), an image",
}

# Okabe & Ito (2008) and, for the last, Tol's muted scheme.
_COLOURS = {
    "euler": "#D55E00",
    "rk2": "#E69F00",
    "rk4": "#0072B2",
    "rk4_38": "#56B4E9",
    "reversible": "#CC79A7",
    "rk45": "#009E73",
    "rk45_relative": "#882255",
}
_MARKERS = {"euler": "o", "rk2": "s", "rk4": "^", "reversible": "D", "rk45": "v"}


def scheme_name(scheme: str) -> str:
    return SCHEME_NAMES.get(scheme, scheme)


def colour(scheme: str) -> str:
    return _COLOURS.get(scheme, "#000000")


def marker(scheme: str) -> str:
    return _MARKERS.get(scheme, "X")


def median_over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns n_steps and rho of one scheme on one problem, sorted by n_steps.

    Seeds are paired by number of steps, or by tolerance where that is what was chosen.
    """
    fixed = (rows["tolerance"] == 0).all()
    medians = rows.groupby("n_steps" if fixed else "tolerance")[["n_steps", "rho"]].median()
    return medians.reset_index(drop=True).sort_values("n_steps", ignore_index=True)


def steps_needed(rows: pd.DataFrame, rho: float) -> float | None:
    """The number of steps at which a scheme's error first falls to rho, the median over seeds.

    Between two measured numbers of steps the error is taken for a power of the number; None where
    no measured one is enough.
    """
    medians = median_over_seeds(rows)
    enough = np.flatnonzero(medians["rho"] <= rho)
    if not len(enough):
        return None
    i = int(enough[0])
    steps, errors = medians["n_steps"].to_numpy(float), medians["rho"].to_numpy(float)
    if i == 0 or not np.isfinite(errors[i - 1]) or errors[i] == 0 or steps[i - 1] == 0:
        return float(steps[i])
    part = np.log(errors[i - 1] / rho) / np.log(errors[i - 1] / errors[i])
    return float(steps[i - 1] * (steps[i] / steps[i - 1]) ** part)
