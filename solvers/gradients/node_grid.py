"""The continuous adjoint without drift."""

from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.with_torchdiffeq import OfTorchdiffeq, adjoint, scheme, unit_interval


class NodeGrid(OfTorchdiffeq):
    """torchdiffeq's adjoint with every time step's state kept and put back in the backward solve.

    An ablation: the states do not drift, so what is left of node's error is the inconsistency of
    optimising first and discretising then, O(dt). Memory O(L·Nt) states, which is what the method
    of Chen et al. exists to avoid; for training, anode-steps has the same memory and no error.

    Source: `torchdiffeq.odeint_adjoint`, given all times of the grid.
    """

    name = "node-grid"
    frozen = False

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        times, theirs = unit_interval(z0, n_steps), scheme(self.name, method)
        return adjoint(rhs, z0, times, method=theirs, frozen=self.frozen)
