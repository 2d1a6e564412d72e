"""Reversibility errors over seeds, and the number of steps that an error needs."""

import numpy as np
import pandas as pd


def median_over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns n_steps and rho of one scheme on one problem, sorted by n_steps.

    Seeds are paired by number of steps, or by tolerance for an adaptive scheme.
    """
    fixed = (rows["tolerance"] == 0).all()
    medians = rows.groupby("n_steps" if fixed else "tolerance")[["n_steps", "rho"]].median()
    return medians.reset_index(drop=True).sort_values("n_steps", ignore_index=True)


def steps_needed(rows: pd.DataFrame, rho: float) -> float | None:
    """The number of steps at which a scheme's error, the median over seeds, first falls to rho.

    Between two measured numbers of steps the error is interpolated as a power of the number. None
    where no measured number of steps is enough.
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
