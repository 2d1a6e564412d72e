"""Paired comparison of two classifiers on the same images."""

import math
from typing import NamedTuple

import numpy as np

TWO_SIDED_5_PERCENT = 1.96
"""Standard errors that a difference exceeds by chance in 5 % of all cases."""


class PairedDifference(NamedTuple):
    """only_first, only_second: numbers of images that one of the two alone classified correctly.
    standard_error: of the difference of accuracies, in percentage points. p_value: McNemar's
    two-sided one."""

    only_first: int
    only_second: int
    standard_error: float
    p_value: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """McNemar's test (1947) with continuity correction; bool arrays, true where a prediction is
    correct."""
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    n, discordant = len(first), only_first + only_second
    variance = discordant / n - ((only_first - only_second) / n) ** 2
    z = max(0, abs(only_first - only_second) - 1) / math.sqrt(discordant) if discordant else 0.0
    return PairedDifference(
        only_first, only_second, 100 * math.sqrt(variance / n), math.erfc(z / math.sqrt(2))
    )


def paired_noise(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of accuracies, as a fraction, that McNemar's test takes for chance at
    the 5 % level; arrays as `mcnemar` takes them."""
    discordant = int((first != second).sum())
    return (TWO_SIDED_5_PERCENT * math.sqrt(discordant) + 1) / len(first) if discordant else 0.0


def unpaired_noise(first: float, second: float, n_images: tuple[int, int]) -> float:
    """The same for accuracies, as fractions, on different images or where only their numbers are
    known."""
    variances = (p * (1 - p) / n for p, n in zip((first, second), n_images, strict=True))
    return TWO_SIDED_5_PERCENT * math.sqrt(sum(variances))
