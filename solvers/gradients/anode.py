"""ANODE: one checkpoint per ODE block, exact gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solvers.methods import METHODS, RightHandSide, Tableau, integrate
from solvers.parameters import trainable_parameters
from solvers.replay import Replay


class Anode:
    """Keeps the block's input alone; the backward pass solves the block again, storing all.

    The gradient of the discrete forward pass, bit for bit that of backprop. Memory O(L) + O(Nt)
    for L blocks of Nt steps, time one extra forward pass: about 4/3 of backprop. It gains nothing
    over backprop in a network with a single block.

    Source: Gholami, Keutzer, Biros, "ANODE: Unconditionally Accurate Memory-Efficient Gradients
    for Neural ODEs", IJCAI 2019, section V and figure 6.
    """

    name = "anode"

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)

        def forward(z: Tensor) -> Tensor:
            return integrate(rhs, z, tableau, n_steps)

        parameters = trainable_parameters(rhs)
        if not (torch.is_grad_enabled() and (z0.requires_grad or parameters)):
            return forward(z0)
        z1: Tensor = _Checkpointed.apply(forward, Replay(rhs, z0.device), z0, *parameters)
        return z1


class _Checkpointed(torch.autograd.Function):
    """A computation that keeps its input and is run again when its gradient is wanted.

    One differentiation gives the gradient in the input and in the parameters.
    """

    @staticmethod
    def forward(
        ctx: Any,
        compute: Callable[[Tensor], Tensor],
        replay: Replay,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.compute, ctx.replay, ctx.parameters = compute, replay, parameters
        # The parameters are saved so that autograd notices when one was changed in between.
        ctx.save_for_backward(z0, *parameters)
        with replay.first():
            return compute(z0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z0 = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[2])
        with ctx.replay.again():
            z1 = ctx.compute(z0)
        wanted = [x for x in (z0, *ctx.parameters) if x.requires_grad]
        found = iter(torch.autograd.grad(z1, wanted, gradient, allow_unused=True))
        return (
            None,
            None,
            *(next(found) if x.requires_grad else None for x in (z0, *ctx.parameters)),
        )
