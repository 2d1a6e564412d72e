"""Exact gradients of a solve with adaptive steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solvers.adaptive import AdaptiveSolve
from solvers.gradients.anode import Anode
from solvers.methods import RightHandSide, Tableau
from solvers.parameters import (
    add,
    differentiate,
    edges,
    other_leaves,
    require_none,
    trainable_parameters,
    wants_gradient,
)
from solvers.proof import checksum, require_same
from solvers.with_torchdiffeq import last_state


@dataclass(frozen=True)
class AnodeRK45:
    """Dormand & Prince's 5(4) pair with torchdiffeq's step control; the accepted steps reversed.

    The forward pass is that of node-rk45, bit for bit, and method and n_steps are not used. It
    keeps time, length, state and first slope of each accepted step. The backward pass runs each of
    these steps again, from the last, and differentiates it, and with the last one torchdiffeq's
    interpolation to t = 1. Exact for the solve with these steps: how their lengths depend on the
    state and on the parameters is left out. Rejected steps are not run again.

    Memory O(L·N) for N accepted steps, two states each, plus what one step stores; time six
    evaluations for each accepted step. Not where the number of evaluations must be known, nor in a
    CUDA graph, as the host reads the error of each step. Not to be compared with backprop, whose
    forward pass is another.

    Source: Zhuang et al., "Adaptive Checkpoint Adjoint Method for Gradient Estimation in Neural
    ODE", ICML 2020, algorithm 2; `torchdiffeq.odeint` with method "dopri5".
    """

    rtol: float = 1e-3
    atol: float = 1e-3

    @property
    def name(self) -> str:
        return f"anode-rk45:rtol={self.rtol:g}:atol={self.atol:g}"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless both tolerances are positive numbers."""
        for tolerance in (self.rtol, self.atol):
            if not (math.isfinite(tolerance) and tolerance > 0):
                raise ValueError(f"{self.name}: rtol and atol must be positive numbers")

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)
        if not z0.numel():  # no error that could control a step
            return Anode().solve(rhs, z0, "euler", 1)
        parameters = trainable_parameters(rhs)
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        solution = AdaptiveSolve(self.name, rhs, z0.detach(), **tolerances)
        if not wants_gradient(z0, parameters):
            z1 = solution.solve()
            require_none(other_leaves(edges([z1]), []))
        else:
            z1 = _Adaptive.apply(solution, z0, *parameters)
        return last_state(z1[None], z0)


class _Adaptive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, solution: AdaptiveSolve, z0: Tensor, *parameters: Tensor) -> Tensor:
        ctx.solution, ctx.parameters = solution, parameters
        ctx.save_for_backward(z0, *parameters)
        with solution.whole.first():
            z1 = solution.solve()
        ctx.end = checksum([z1])
        return z1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        solution: AdaptiveSolve = ctx.solution
        solution.whole.require_parameters()
        z0 = ctx.saved_tensors[0].detach().requires_grad_()
        arriving, end = [gradient], ctx.end
        found: Sequence[Tensor | None] = [None] * len(ctx.parameters)
        for index, (before, replay) in reversed([*enumerate(solution.accepted)]):
            z, slope = (x.detach().requires_grad_() for x in (before.y1, before.f1))
            with replay.again():
                results = solution.again(index, z, slope)
            require_same(results, end)
            end, ends = checksum([z, slope]), edges(results)
            del results
            *arriving, found = _parts(ends, (z, slope), ctx.parameters, arriving, found)
        with solution.whole.again():
            slope = solution.first_slope(z0)
        require_same([z0, slope], end)
        ends = edges([slope])
        to_slope = arriving[1:] if ends else []
        part, *parts = differentiate(ends, (z0, *ctx.parameters), to_slope)
        found = [add(total, more) for total, more in zip(found, parts, strict=True)]
        return (None, add(arriving[0], part), *found)


def _parts(
    ends: Any,
    inputs: tuple[Tensor, Tensor],
    parameters: Sequence[Tensor],
    arriving: Sequence[Tensor],
    found: Sequence[Tensor | None],
) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
    """The gradients in state and slope before a step, and those in the parameters so far."""
    gradients = differentiate(ends, (*inputs, *parameters), arriving)
    in_state, in_slope = (
        torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients, strict=False)
    )
    parts = [add(total, part) for total, part in zip(found, gradients[2:], strict=True)]
    return in_state, in_slope, parts
