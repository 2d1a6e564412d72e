"""Backpropagation through torchdiffeq's own solver."""

import torchdiffeq
from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.with_torchdiffeq import OfTorchdiffeq, last_state, n_equal_steps, scheme, unit_interval


class BackpropTorchdiffeq(OfTorchdiffeq):
    """torchdiffeq.odeint, differentiated by autograd: the library's store-everything gradient.

    Exact, with backprop's memory O(L·Nt): it tells what of node's cost and error is the library's
    and what the adjoint's. Not otherwise of use.

    Source: `torchdiffeq.odeint`.
    """

    name = "backprop-torchdiffeq"
    exactness = "up to summation"
    leaves_statistics = True

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        solution = torchdiffeq.odeint(
            rhs,
            z0,
            unit_interval(z0),
            method=scheme(self.name, method),
            options=n_equal_steps(z0, n_steps),
        )
        return last_state(solution, z0)
