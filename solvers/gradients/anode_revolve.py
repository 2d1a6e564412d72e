"""Binomial checkpointing inside an ODE block: at most m states at a time."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solvers.gradients.binomial import Point, follow, is_available, schedule
from solvers.methods import METHODS, RightHandSide, Tableau, advance_all, integrate, step_grid
from solvers.parameters import trainable_parameters, wants_gradient
from solvers.replay import Replay


@dataclass(frozen=True)
class AnodeRevolve:
    """Keeps the block's input; the backward pass keeps at most m states, the input among them.

    Which states are kept, and which steps are run again, is the schedule that recomputes least:
    `solvers.gradients.binomial.recomputed_steps(Nt, m)` steps in all. m of None means ⌈log₂ Nt⌉.

    Exact: the gradient in z0 is backprop's bit for bit, that in the parameters up to the order of
    summation. Memory O(L) + O(m) states plus what one step stores. Not where O(Nt) fits: anode
    recomputes every step but once.

    Source: Griewank & Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000); the schedules are
    those of the package checkpoint-schedules.
    """

    m: int | None = None

    exactness = "up to summation"
    leaves_statistics = True
    is_capturable = True

    @property
    def name(self) -> str:
        return "anode-revolve" if self.m is None else f"anode-revolve:m={self.m}"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless 1 ≤ m ≤ n_steps and the schedules are installed."""
        if not is_available():
            raise ValueError(
                "anode-revolve needs the package checkpoint-schedules: install it, or choose "
                "another gradient method"
            )
        if self.m is not None and not 1 <= self.m <= n_steps:
            raise ValueError(
                f"{self.name} needs 1 ≤ m ≤ Nt, and Nt is {n_steps}: choose m between 1 and "
                f"{n_steps}"
            )

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)
        tableau = METHODS.resolve(method)
        parameters = trainable_parameters(rhs)
        if not wants_gradient(z0, parameters):
            return integrate(rhs, z0, tableau, n_steps)
        m = self.m or max(1, math.ceil(math.log2(n_steps)))
        z1: Tensor = _Revolved.apply(rhs, tableau, n_steps, m, z0, *parameters)
        return z1


class _Revolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rhs: RightHandSide,
        tableau: Tableau,
        n_steps: int,
        m: int,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        steps = step_grid(tableau, n_steps, z0.dtype, z0.device)
        ctx.rhs, ctx.parameters, ctx.schedule = rhs, parameters, schedule(n_steps, m)
        ctx.run = lambda z, begin, end: advance_all(rhs, z, tableau, steps[begin:end])
        ctx.replay = Replay(rhs, z0.device)
        ctx.save_for_backward(z0, *parameters)
        with ctx.replay.first():
            z1: Tensor = ctx.run(z0, 0, n_steps)
            return z1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        start = Point(ctx.saved_tensors[0].detach(), ctx.replay)
        adjoint, found = follow(ctx.schedule, ctx.run, ctx.rhs, ctx.parameters, start, gradient)
        return (None, None, None, None, adjoint, *found)
