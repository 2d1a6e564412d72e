"""The continuous adjoint with BatchNorm's statistics left alone."""

import torchdiffeq
from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.parameters import trainable_parameters
from solvers.with_torchdiffeq import (
    frozen_afterwards,
    last_state,
    n_equal_steps,
    n_equal_steps_back,
    scheme,
    unit_interval,
)


class NodeFrozen:
    """node, but that its backward solve leaves no trace in the right-hand side's buffers.

    An ablation: the gradient is node's, and BatchNorm's running statistics see the forward pass
    alone. In training mode BatchNorm does not use them, so both train the same weights, and what
    separates their test accuracies is the second update of the statistics. What separates it from
    anode is not the gradient alone: other weights have other running statistics, which mix the
    evaluations of a step in both.

    Source: as node; the separation is ours.
    """

    name = "node-frozen"
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
                unit_interval(z0),
                method=scheme(self.name, method),
                options=n_equal_steps(z0, n_steps),
                adjoint_options=n_equal_steps_back(z0, n_steps),
                adjoint_params=tuple(trainable_parameters(rhs)),
            )
        return last_state(solution, z0)
