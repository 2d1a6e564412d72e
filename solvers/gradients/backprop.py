"""Store-everything backpropagation, the reference for all others."""

from torch import Tensor

from solvers.integrate import RightHandSide, integrate
from solvers.methods import METHODS, Tableau


class Backprop:
    """Reverse-mode differentiation through all stored stages of all steps.

    Exact, and nothing is computed twice. Memory O(Nt) for each block, O(L·Nt) for L blocks: not
    for blocks with many steps.
    """

    name = "backprop"
    exactness = "exact"
    leaves_statistics = True
    is_capturable = True

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        return integrate(rhs, z0, METHODS.resolve(method), n_steps)
