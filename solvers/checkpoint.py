"""A computation that keeps its input alone and is run again when its gradient is wanted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solvers.methods import RightHandSide
from solvers.parameters import differentiate, trainable_parameters, wants_gradient
from solvers.replay import Replay


def checkpointed(compute: Callable[[Tensor], Tensor], rhs: RightHandSide, z0: Tensor) -> Tensor:
    """compute(z0), of which nothing but z0 is kept for the backward pass.

    compute must evaluate no module but rhs. Its gradient in z0 and in the parameters of rhs is
    that of compute itself, bit for bit.
    """
    parameters = trainable_parameters(rhs)
    if not wants_gradient(z0, parameters):
        return compute(z0)
    z1: Tensor = _Checkpointed.apply(compute, Replay(rhs, z0.device), z0, *parameters)
    return z1


class _Checkpointed(torch.autograd.Function):
    """One differentiation gives the gradient in the input and in the parameters."""

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
        return (None, None, *differentiate([z1], (z0, *ctx.parameters), [gradient]))
