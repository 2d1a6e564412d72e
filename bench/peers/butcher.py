"""Our schemes in the notation of other libraries."""

from typing import NamedTuple

from solvers import Tableau


class Butcher(NamedTuple):
    """The coefficients of an explicit Runge–Kutta method: times c, and in a a row of weights for
    each stage, the first one empty; b the weights of the update."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


def butcher(tableau: Tableau) -> Butcher:
    """The same scheme in Butcher's notation."""
    rows = [tuple(w * stage.scale for w in stage.weights) for stage in tableau.stages]
    update = tableau.update
    return Butcher(tableau.times, ((), *rows), tuple(w * update.scale for w in update.weights))
