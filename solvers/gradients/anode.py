"""ANODE: one checkpoint per ODE block, exact gradients."""

from torch import Tensor

from solvers.checkpoint import checkpointed
from solvers.integrate import RightHandSide, integrate
from solvers.methods import METHODS, Tableau


class Anode:
    """Stores only the block's input; the backward pass solves the block again and stores all.

    Memory O(L) + O(Nt) for L blocks of Nt steps, time one extra forward pass. It gains nothing over
    backprop in a network with a single block.

    Source: Gholami, Keutzer, Biros, "ANODE: Unconditionally Accurate Memory-Efficient Gradients
    for Neural ODEs", IJCAI 2019, section V and figure 6.
    """

    name = "anode"
    exactness = "exact"
    leaves_statistics = True
    is_capturable = True

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        return checkpointed(lambda rhs, z: integrate(rhs, z, tableau, n_steps), rhs, z0)
