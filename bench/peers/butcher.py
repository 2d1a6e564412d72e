"""Our schemes in the notation of other libraries."""

from solvers import Tableau

Weights = tuple[float, ...]


def butcher(tableau: Tableau) -> tuple[Weights, tuple[Weights, ...], Weights]:
    """Convert a tableau to Butcher's notation.

    Returns times c; in a a row of weights for each stage, the first one empty; weights b of the
    update.
    """
    rows = [stage.factors for stage in tableau.stages]
    return tableau.times, ((), *rows), tableau.update.factors
