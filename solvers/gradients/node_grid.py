"""The continuous adjoint, each step's state restored."""

import torchdiffeq
from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.parameters import trainable_parameters
from solvers.with_torchdiffeq import last_state, scheme, unit_interval


class NodeGrid:
    """torchdiffeq's adjoint with every time step's state kept and put back in the backward solve.

    An ablation: no drift is carried from step to step. Inside a step torchdiffeq still solves
    backwards, so with more than one stage its stage states are not those of the forward pass. For
    a smooth right-hand side the error is O(dt^p) with a method of order p. Memory O(L·Nt) states,
    which is what the method of Chen et al. exists to avoid; for training, anode-steps has the same
    memory and no error.

    Source: `torchdiffeq.odeint_adjoint`, given all times of the grid.
    """

    name = "node-grid"
    is_capturable = True
    reads_constants = True

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError when torchdiffeq does not have the scheme."""
        scheme(self.name, method)

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        solution = torchdiffeq.odeint_adjoint(
            rhs,
            z0,
            unit_interval(z0, n_steps),
            method=scheme(self.name, method),
            adjoint_params=tuple(trainable_parameters(rhs)),
        )
        return last_state(solution, z0)
