"""The continuous adjoint with BatchNorm's statistics left alone."""

import torchdiffeq
from torch import Tensor, nn

from solvers.methods import RightHandSide, Tableau
from solvers.parameters import trainable_parameters
from solvers.replay import buffers_put_back
from solvers.with_torchdiffeq import last_state, n_equal_steps, scheme, unit_interval


class NodeFrozen:
    """node, but that its backward solve leaves no trace in the right-hand side's buffers.

    An ablation: the gradient is node's, and BatchNorm's running statistics see the forward pass
    alone. What separates it from node in a training run is the damage of polluted statistics,
    what separates it from anode that of the wrong gradient.

    Source: as node; the separation is ours.
    """

    name = "node-frozen"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError when torchdiffeq does not have the scheme."""
        scheme(self.name, method)

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        frozen = _FrozenAfterTheForwardPass(rhs)
        solution = torchdiffeq.odeint_adjoint(
            frozen,
            z0,
            unit_interval(z0),
            method=scheme(self.name, method),
            options=n_equal_steps(n_steps),
            adjoint_params=tuple(trainable_parameters(rhs)),
        )
        frozen.forward_is_over = True
        return last_state(solution, z0)


class _FrozenAfterTheForwardPass(nn.Module):
    def __init__(self, rhs: RightHandSide) -> None:
        super().__init__()
        self.rhs = rhs
        self.forward_is_over = False

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        if not self.forward_is_over:
            return self.rhs(t, z)
        with buffers_put_back(self.rhs):
            return self.rhs(t, z)
