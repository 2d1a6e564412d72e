"""The continuous adjoint, each step's state restored."""

from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.with_torchdiffeq import OfTorchdiffeq, adjoint, scheme, unit_interval


class NodeGrid(OfTorchdiffeq):
    """torchdiffeq's adjoint with every time step's state kept and put back in the backward solve.

    An ablation: no drift is carried from step to step. Inside a step torchdiffeq still solves
    backwards, so with more than one stage its stage states are not those of the forward pass. For
    a smooth right-hand side the error is O(dt^p) with a method of order p. Memory O(L·Nt) states,
    which is what the method of Chen et al. exists to avoid; for training, anode-steps has the same
    memory and no error.

    Source: `torchdiffeq.odeint_adjoint`, given all times of the grid.
    """

    name = "node-grid"
    frozen = False

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        times, theirs = unit_interval(z0, n_steps), scheme(self.name, method)
        return adjoint(rhs, z0, times, method=theirs, frozen=self.frozen)
