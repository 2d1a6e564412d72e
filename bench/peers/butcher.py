"""Our schemes in the notation of other libraries."""

from typing import NamedTuple

from solvers import Tableau


class Butcher(NamedTuple):
    """Coefficients of an explicit Runge–Kutta method: times c, rows of stage weights a (the first
    one empty), and weights b of the update."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


def butcher(tableau: Tableau) -> Butcher:
    """Convert a tableau to Butcher's notation."""
    rows = [tuple(w * stage.scale for w in stage.weights) for stage in tableau.stages]
    update = tableau.update
    return Butcher(tableau.times, ((), *rows), tuple(w * update.scale for w in update.weights))
