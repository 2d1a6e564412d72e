"""Backpropagation through torchdiffeq's own solver."""

from torch import Tensor

from solvers.integrate import RightHandSide, checked
from solvers.methods import Tableau
from solvers.with_torchdiffeq import FixedSteps, last_state, library, n_equal_steps, unit_interval


class BackpropTorchdiffeq(FixedSteps):
    """torchdiffeq.odeint, differentiated by autograd: the library's store-everything gradient.

    Exact, with backprop's memory O(L·Nt). It separates the cost and error of node that are the
    library's from those of the adjoint; there is no other reason to use it.

    Source: `torchdiffeq.odeint`.
    """

    name = "backprop-torchdiffeq"
    exactness = "up to summation"
    leaves_statistics = True

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        how = {"method": self.scheme(method), "options": n_equal_steps(z0, n_steps)}

        def evaluated(t: Tensor, z: Tensor) -> Tensor:
            return checked(rhs(t, z), z)

        return last_state(library().odeint(evaluated, z0, unit_interval(z0), **how), z0)
