"""Backpropagation through torchdiffeq's adaptive solver."""

from torch import Tensor

from solvers.gradients.adaptive.steps import AdaptiveSteps
from solvers.integrate import RightHandSide
from solvers.methods import Tableau
from solvers.with_torchdiffeq import last_state, library, unit_interval


class BackpropRK45(AdaptiveSteps):
    """torchdiffeq.odeint with dopri5, differentiated by autograd, its steps held constant.

    The reference for the other methods with adaptive steps. Exact for the solve with the steps
    that it accepts: how their lengths depend on the state and the parameters is left out. Memory
    O(L·N) for N accepted steps, with all that their stages store: not for training, where
    anode-rk45 has the same gradient.

    Source: `torchdiffeq.odeint`.
    """

    family = "backprop-rk45"
    exactness = "up to summation"
    leaves_statistics = True

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        controlled, how = self.arguments(rhs, z0, self.evaluated(rhs))
        return last_state(library().odeint(controlled, z0, unit_interval(z0), **how), z0)

    def evaluated(self, rhs: RightHandSide) -> RightHandSide:
        return rhs
