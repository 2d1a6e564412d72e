"""The continuous adjoint with an adaptive solver, as published."""

import math
from dataclasses import dataclass

from torch import Tensor

from solvers.gradients.with_torchdiffeq import adjoint, unit_interval
from solvers.integrate import RightHandSide
from solvers.methods import Tableau


@dataclass(frozen=True)
class NodeRK45:
    """torchdiffeq's adjoint with Dormand & Prince's 5(4) pair and its own step control.

    rtol and atol are the tolerances of both solves. Method and n_steps are not used: the forward
    pass differs from that of the methods with fixed steps, and its number of evaluations depends
    on the weights. Memory O(L). Not for right-hand sides with kinks or a large Lipschitz constant:
    the backward solve reconstructs other states than those of the forward solve.

    Source: Chen et al., "Neural Ordinary Differential Equations", NeurIPS 2018;
    `torchdiffeq.odeint_adjoint` with method "dopri5".
    """

    rtol: float = 1e-3
    atol: float = 1e-3

    is_adaptive = True

    @property
    def name(self) -> str:
        return f"node-rk45:rtol={self.rtol:g}:atol={self.atol:g}"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless both tolerances are positive numbers."""
        for tolerance in (self.rtol, self.atol):
            if not (math.isfinite(tolerance) and tolerance > 0):
                raise ValueError(f"{self.name}: rtol and atol must be positive numbers")

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)
        # An empty batch has no error estimate for the step control.
        scheme = "dopri5" if z0.numel() else "euler"
        return adjoint(rhs, z0, unit_interval(z0), method=scheme, rtol=self.rtol, atol=self.atol)
