"""Laws fitted to growth, with their standard errors."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

MEDIANS = 0.93
"""Standard error of a median of n normal values, in quartile ranges ÷ √n: 1.253 σ / 1.349 σ."""


def relative_error(low: Values, median: Values, high: Values, repeats: Values) -> Values:
    """The relative standard error of medians with these quartiles."""
    return MEDIANS * (high - low) / np.sqrt(repeats) / median


def slope(x: Values, y: Values, error: Values) -> tuple[float, float]:
    """d log y / d log x by least squares over the upper part of a sweep, and its standard error.

    The upper part: all points above the geometric middle, but at least three. error: the relative
    standard errors of y.
    """
    order = np.argsort(x)
    x, y, error = x[order], y[order], error[order]
    above = int((x >= np.sqrt(x[0] * x[-1])).sum())
    upper = slice(-max(above, min(3, len(x))), None)
    weights = np.ones_like(x[upper])
    (found, _), (open_, _) = _polynomial(
        np.log(x[upper]), np.log(y[upper]), 1, weights, error[upper]
    )
    return float(found), float(open_)


def parabola(x: Values, y: Values, error: Values) -> dict[str, float]:
    """y = a + b·x + c·x² by least squares in the relative error, as noise is relative.

    Returns a, b, c; quadratic: c·x² ÷ y at the largest x, and its standard error; misfit: the
    largest relative error. Empty below four points. error: as in `slope`.
    """
    if len(x) < 4:
        return {}
    found, errors = _polynomial(x, y, 2, 1 / y, y * error)
    c, b, a = map(float, found)
    last = int(np.argmax(x))
    in_shares = float(x[last] ** 2 / y[last])
    return {
        **{"a": a, "b": b, "c": c},
        "quadratic": c * in_shares,
        "quadratic_error": float(errors[0]) * in_shares,
        "misfit": float(np.abs(np.polyval(found, x) / y - 1).max()),
    }


def _polynomial(
    x: Values, y: Values, degree: int, weights: Values, error: Values
) -> tuple[Values, Values]:
    """Coefficients, the highest power first, and their standard errors.

    The larger of two standard errors: from those of y, and from the scatter about the fit, which
    also has what disturbed a whole case, and a wrong law.
    """
    found = np.polyfit(x, y, degree, w=weights)
    # The fit is linear in y: the change of the coefficients by each point's error.
    changes = np.polyfit(x, np.diag(error), degree, w=weights)
    variance = (changes**2).sum(axis=1)
    if len(x) > degree + 1:
        _, covariance = np.polyfit(x, y, degree, w=weights, cov=True)
        variance = np.maximum(variance, np.diag(covariance))
    return found, np.sqrt(variance)


def exact_law(x: list[int], y: list[int]) -> tuple[Fraction, ...] | None:
    """(a, b, c) of y = a + b·x + c·x² through every point exactly.

    None where no such law exists, or there are too few points: degree d needs d + 2 of them.
    """
    for degree in range(3):
        if len(x) < degree + 2:
            return None
        fitted = np.polyfit(x, y, degree)[::-1]
        law = [Fraction(float(part)).limit_denominator(1000) for part in fitted]
        law += [Fraction(0)] * (2 - degree)
        if all(
            law[0] + law[1] * at + law[2] * at**2 == value for at, value in zip(x, y, strict=True)
        ):
            return tuple(law)
    return None
