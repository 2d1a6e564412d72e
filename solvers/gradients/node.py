"""The Neural ODE method: torchdiffeq's continuous adjoint, unmodified."""

from torch import Tensor

from solvers.methods import RightHandSide, Tableau
from solvers.with_torchdiffeq import OfTorchdiffeq, adjoint, n_equal_steps, scheme, unit_interval


class Node(OfTorchdiffeq):
    """Keeps z(1) alone and solves state, adjoint and parameter integral backwards from it.

    Memory O(L) for L blocks, whatever the number of steps. Not the gradient of the discrete
    forward pass: the states solved backwards drift, and even at the forward pass's own states the
    discretised adjoint equation is another than the discrete adjoint; for a smooth right-hand side
    the error is O(dt^p) with a method of order p. Not for training where either matters; see the
    paper on ANODE. While it solves backwards, torchdiffeq evaluates the right-hand side in training
    mode, so BatchNorm's running statistics change a second time, at the backward evaluations.

    Source: Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations",
    NeurIPS 2018; `torchdiffeq.odeint_adjoint`.
    """

    name = "node"
    frozen = False

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        return adjoint(
            rhs,
            z0,
            unit_interval(z0),
            method=scheme(self.name, method),
            options=n_equal_steps(z0, n_steps),
            adjoint_options=n_equal_steps(z0, n_steps, backwards=True),
            frozen=self.frozen,
        )
