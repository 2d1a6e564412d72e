"""The largest difference of two results that may be chance."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.records.comparison.observed import Observed
from bench.records.quantities import ACCURACY, GRADIENT_ERROR

TWO_SIDED_5_PERCENT = 1.96
"""Standard errors that a difference exceeds by chance in 5 % of all cases."""

STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5 % quantiles of Student's t for 1, 2, … degrees of freedom."""


def of_pair(a: Observed, b: Observed) -> float:
    """The noise of one quantity of two runs or measurements; NaN if it is not known."""
    if a.quantity.startswith(ACCURACY):
        if a.correct is not None and b.correct is not None and a.images == b.images:
            return paired(a.correct, b.correct)
        sizes = a.n_images, b.n_images
        return unpaired(a.value, b.value, sizes) if all(sizes) else math.nan
    if a.quantity == GRADIENT_ERROR and 0 in (a.value, b.value):
        return 0.0  # there the gradient has the bits of backprop's
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return math.nan
    lower, upper = sorted((a, b), key=lambda observed: observed.value)
    return float((lower.high or 0.0) - lower.value + upper.value - (upper.low or 0.0))


def of_mean(differences: pd.Series, noises: pd.Series) -> float:
    """The noise of the mean of paired differences, one for each seed.

    95 % by Student's t, and at least what the seeds' own noise contributes. 0 if no seed has any.
    """
    if (noises == 0).all():
        return 0.0
    degrees = len(differences) - 1
    quantile = STUDENT_T[degrees - 1] if degrees <= len(STUDENT_T) else 2.0
    of_seeds = math.sqrt((noises**2).sum()) / len(noises)
    return max(quantile * float(differences.sem()), of_seeds)


class PairedDifference(NamedTuple):
    """only_first, only_second: numbers of images that one of the two alone classified correctly.
    standard_error: of the difference of accuracies, in percentage points. p_value: McNemar's
    two-sided one."""

    only_first: int
    only_second: int
    standard_error: float
    p_value: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """McNemar's test (1947) with continuity correction. first, second: bool (n,), true for a
    correct prediction."""
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    n, discordant = len(first), only_first + only_second
    variance = discordant / n - ((only_first - only_second) / n) ** 2
    z = max(0, abs(only_first - only_second) - 1) / math.sqrt(discordant) if discordant else 0.0
    return PairedDifference(
        only_first, only_second, 100 * math.sqrt(variance / n), math.erfc(z / math.sqrt(2))
    )


def paired(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of accuracies, as a fraction, that McNemar's test takes for chance at
    the 5 % level. Arrays as for `mcnemar`."""
    discordant = int((first != second).sum())
    return (TWO_SIDED_5_PERCENT * math.sqrt(discordant) + 1) / len(first) if discordant else 0.0


def unpaired(first: float, second: float, n_images: tuple[int, int]) -> float:
    """As `paired`, for different images, or if only their numbers are known."""
    variances = (p * (1 - p) / n for p, n in zip((first, second), n_images, strict=True))
    return TWO_SIDED_5_PERCENT * math.sqrt(sum(variances))
