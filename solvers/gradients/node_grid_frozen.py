"""The continuous adjoint, each step's state restored, BatchNorm's statistics left alone."""

import torchdiffeq
from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.parameters import trainable_parameters
from solvers.with_torchdiffeq import frozen_afterwards, last_state, scheme, unit_interval


class NodeGridFrozen:
    """node-grid, but that its backward solve leaves no trace in the right-hand side's buffers.

    An ablation. What separates it from node-grid in training is the second update of the running
    statistics, what separates it from node-frozen the drift from step to step, and what separates
    it from anode all that is left of node's gradient error. Not for training; as node-grid.

    Source: as node-grid; the separation is ours.
    """

    name = "node-grid-frozen"
    leaves_statistics = True
    is_capturable = True
    reads_constants = True

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError when torchdiffeq does not have the scheme."""
        scheme(self.name, method)

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        with frozen_afterwards(rhs) as frozen:
            solution = torchdiffeq.odeint_adjoint(
                frozen,
                z0,
                unit_interval(z0, n_steps),
                method=scheme(self.name, method),
                adjoint_params=tuple(trainable_parameters(rhs)),
            )
        return last_state(solution, z0)
