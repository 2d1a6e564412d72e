"""The continuous adjoint with an adaptive solver, as published."""

from torch import Tensor

from solvers.gradients.adaptive.steps import AdaptiveSteps
from solvers.integrate import RightHandSide
from solvers.methods import Tableau
from solvers.with_torchdiffeq import adjoint, unit_interval


class NodeRK45(AdaptiveSteps):
    """torchdiffeq's adjoint with dopri5 in both directions.

    Memory O(L). Not for right-hand sides with kinks or a large Lipschitz constant: the backward
    solve reconstructs other states than those of the forward solve.

    Source: Chen et al., "Neural Ordinary Differential Equations", NeurIPS 2018;
    `torchdiffeq.odeint_adjoint` with method "dopri5".
    """

    family = "node-rk45"

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        controlled, how = self.arguments(rhs, z0)
        return adjoint(controlled, z0, unit_interval(z0), **how)
