"""A computation that keeps its input alone and is run again when its gradient is wanted."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from solvers.methods import RightHandSide
from solvers.parameters import differentiate, edges, trainable_parameters, wants_gradient
from solvers.proof import Checksum, checksum, require_same
from solvers.replay import Replay

Compute = Callable[[Tensor], Tensor]

Again = Callable[[Replay, Tensor, Sequence[Tensor], Sequence[Checksum], Tensor], Sequence[Any]]
"""Of a replay, z0, the parameters, the result's checksum and its gradient; returns the gradients in
z0 and in the parameters. Raises InexactError where the result is another."""


def checkpointed(
    compute: Compute, rhs: RightHandSide, z0: Tensor, again: Again | None = None
) -> Tensor:
    """compute(z0), of which nothing but z0 is kept for the backward pass, which is `again`: by
    default compute as a whole.

    compute must evaluate no module but rhs. Its gradient in z0 and in the parameters of rhs is
    that of compute itself, bit for bit; where it cannot be, backward raises InexactError.
    """
    parameters = trainable_parameters(rhs)
    if not wants_gradient(z0, parameters):
        return compute(z0)
    again, replay = again or partial(_whole, compute), Replay(rhs, z0.device)
    z1: Tensor = _Checkpointed.apply(compute, again, replay, z0, *parameters)
    return z1


def _whole(
    compute: Compute, replay: Replay, z0: Tensor, parameters: Any, end: Any, gradient: Tensor
) -> Sequence[Any]:
    with replay.again():
        z1 = compute(z0)
    require_same([z1], end)
    ends, z1 = edges([z1]), z1.detach()  # only `ends` is to keep the graph
    return differentiate(ends, (z0, *parameters), [gradient])


class _Checkpointed(Function):
    @staticmethod
    def forward(
        ctx: Any, compute: Compute, again: Again, replay: Replay, z0: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.again, ctx.replay, ctx.parameters = again, replay, parameters
        # The parameters are saved so that autograd notices when one was changed in between.
        ctx.save_for_backward(z0, *parameters)
        with replay.first():
            z1 = compute(z0)
        ctx.end = checksum([z1])
        return z1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z0 = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[3])
        return (None, None, None, *ctx.again(ctx.replay, z0, ctx.parameters, ctx.end, gradient))
