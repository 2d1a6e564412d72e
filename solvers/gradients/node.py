"""The Neural ODE method, torchdiffeq's continuous adjoint, and its ablations."""

from dataclasses import dataclass

from torch import Tensor

from solvers.integrate import RightHandSide
from solvers.methods import Tableau
from solvers.with_torchdiffeq import FixedSteps, adjoint, n_equal_steps, unit_interval


@dataclass(frozen=True)
class Node(FixedSteps):
    """Stores only z(1) and solves state, adjoint and parameter integral backwards from it.

    Memory O(L) for L blocks, whatever the number of steps. Not the gradient of the discrete forward
    pass: the states drift, and even at the forward pass's own states the discretised adjoint
    differs from the discrete one; O(dt^p) for a smooth right-hand side and a method of order p. Not
    for training where this matters. The backward solve updates BatchNorm's running statistics.

    grid, an ablation (`node-grid`): the state of each step is stored and restored in the backward
    solve, so no drift is carried from step to step. Memory O(L·Nt) states, as anode-steps.

    frozen, an ablation (`node-frozen`, `node-grid-frozen`): the backward solve leaves the
    right-hand side's buffers unchanged; the weights are those of the method that is not frozen.

    Source: Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations",
    NeurIPS 2018; `torchdiffeq.odeint_adjoint`. The ablations are ours.
    """

    grid: bool
    frozen: bool

    @property
    def name(self) -> str:
        return "node" + "-grid" * self.grid + "-frozen" * self.frozen

    @property
    def leaves_statistics(self) -> bool:
        return self.frozen

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        how: dict[str, object] = {"method": self.scheme(method), "frozen": self.frozen}
        if self.grid:
            return adjoint(rhs, z0, unit_interval(z0, n_steps), **how)
        how["options"] = n_equal_steps(z0, n_steps)
        how["adjoint_options"] = n_equal_steps(z0, n_steps, backwards=True)
        return adjoint(rhs, z0, unit_interval(z0), **how)
