"""Laws fitted to how something grows, with what the measurements leave open about them."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

MEDIANS = 0.93
"""The standard error of a median of n values, in quartile ranges ÷ √n, where the values scatter
normally: 1.253 σ / √n, and the quartile range is 1.349 σ."""


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error, nan where nothing tells it."""

    value: float
    error: float


@dataclass(frozen=True)
class Parabola:
    """y = a + b·x + c·x². share: c·x² ÷ y at the largest x; misfit: the largest relative error."""

    a: float
    b: float
    c: float
    share: Estimate
    misfit: float


def relative_error(low: Values, median: Values, high: Values, repeats: Values) -> Values:
    """The relative standard error of medians with these quartiles."""
    return MEDIANS * (high - low) / np.sqrt(repeats) / median


def slope(x: Values, y: Values, error: Values) -> Estimate:
    """d log y / d log x, least squares over the upper part: at least three points, where there are
    so many, and all that lie above the geometric middle of the sweep.

    error: the relative standard errors of y. That of the slope is what they come to, or what the
    points' scatter about the line comes to, whichever is larger: the second sees what disturbed a
    whole case, and a law that is none.
    """
    order = np.argsort(x)
    x, y, error = x[order], y[order], error[order]
    above = int((x >= np.sqrt(x[0] * x[-1])).sum())
    upper = slice(-max(above, min(3, len(x))), None)
    terms = np.stack([np.ones_like(x), np.log(x)], axis=1)[upper]
    (_, found), (_, left_open) = _least_squares(terms, np.log(y[upper]), error[upper])
    return Estimate(found, left_open)


def parabola(x: Values, y: Values, error: Values) -> Parabola | None:
    """Least squares in the relative error, which is what a machine's noise is; None below four
    points. error as in `slope`."""
    if len(x) < 4:
        return None
    terms = np.stack([np.ones_like(x), x, x**2], axis=1) / y[:, None]
    (a, b, c), (_, _, left_open) = _least_squares(terms, np.ones_like(y), error)
    last = int(np.argmax(x))
    in_shares = x[last] ** 2 / y[last]
    misfit = float(np.abs(terms @ np.array([a, b, c]) - 1).max())
    share = Estimate(float(c * in_shares), float(left_open * in_shares))
    return Parabola(a, b, c, share, misfit)


def _least_squares(
    terms: Values, values: Values, error: Values
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients and their standard errors, the larger of two: from the errors of the values, and
    from the residuals where there are more values than coefficients."""
    inverse = np.linalg.pinv(terms)
    found = inverse @ values
    variance = (inverse**2) @ error**2
    freedom = len(values) - len(found)
    if freedom > 0:
        scatter = float(((terms @ found - values) ** 2).sum()) / freedom
        variance = np.maximum(variance, scatter * (inverse**2).sum(axis=1))
    return tuple(found.tolist()), tuple(np.sqrt(variance).tolist())


def exact_law(x: list[int], y: list[int]) -> tuple[Fraction, Fraction, Fraction] | None:
    """(a, b, c) of y = a + b·x + c·x² that goes through every point exactly, in whole-number
    arithmetic. None where there is no such law, or too few points to tell: a law of degree d needs
    d + 2 of them."""
    points = sorted(zip(map(Fraction, x), map(Fraction, y), strict=True))
    for degree in range(3):
        if len(points) < degree + 2:
            return None
        law = _through(points[: degree + 1])
        if all(law[0] + law[1] * at + law[2] * at**2 == value for at, value in points):
            return law
    return None


def _through(points: list[tuple[Fraction, Fraction]]) -> tuple[Fraction, Fraction, Fraction]:
    """The parabola, line or constant through three, two points or one: Newton's form."""
    (x0, y0), *others = points
    if not others:
        return y0, Fraction(0), Fraction(0)
    x1, y1 = others[0]
    first = (y1 - y0) / (x1 - x0)
    second = Fraction(0)
    if len(others) > 1:
        x2, y2 = others[1]
        second = ((y2 - y1) / (x2 - x1) - first) / (x2 - x0)
    return y0 - first * x0 + second * x0 * x1, first - second * (x0 + x1), second
