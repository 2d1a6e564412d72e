"""Store only the input of a computation, and run it again when its gradient is wanted."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from solvers.integrate import RightHandSide, checked
from solvers.parameters import differentiate, edges, trainable_parameters, wants_gradient
from solvers.proof import Checksum, checksum, first_order, require_same
from solvers.replay import Replay

Compute = Callable[[RightHandSide, Tensor], Tensor]

Backward = Callable[[Replay, Tensor, Sequence[Tensor], Sequence[Checksum], Tensor], Sequence[Any]]
"""From a replay, z0, the parameters, the result's checksum and its gradient, returns the gradients
in z0 and in the parameters. Raises InexactError where the recomputed result differs."""


def checkpointed(
    compute: Compute, rhs: RightHandSide, z0: Tensor, backward: Backward | None = None
) -> Tensor:
    """compute(rhs, z0), for whose backward pass only z0 is stored.

    compute may evaluate no module but rhs. backward: by default runs compute again as a whole, for
    the gradient of compute itself, bit for bit; where it cannot be, it raises InexactError.
    """
    parameters = trainable_parameters(rhs)
    if not wants_gradient(z0, parameters):
        return compute(rhs, z0)
    backward = backward or partial(run_again, compute)
    z1: Tensor = _Checkpointed.apply(compute, backward, Replay(rhs, z0.device), z0, *parameters)
    return z1


class CheckpointedEvaluations(nn.Module):
    """A right-hand side of which autograd keeps the state of each evaluation, and nothing else."""

    def __init__(self, rhs: RightHandSide) -> None:
        super().__init__()
        self.rhs: Any = rhs

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        def evaluate(rhs: RightHandSide, z: Tensor) -> Tensor:
            # The right-hand side may set requires_grad of its t, and may return a tensor that it
            # keeps, which autograd must not mark as a result of the checkpoint.
            slope = checked(rhs(t.detach(), z), z)
            return slope.view_as(slope)

        return checkpointed(evaluate, self.rhs, z)


def run_again(
    compute: Compute, replay: Replay, z0: Tensor, parameters: Any, end: Any, gradient: Tensor
) -> Sequence[Any]:
    """The `Backward` that runs compute again as a whole and differentiates it."""
    with replay.again() as rhs:
        z1 = compute(rhs, z0)
    require_same([z1], end)
    ends, z1 = edges([z1]), z1.detach()  # only `ends` keeps the graph
    return differentiate(ends, (z0, *parameters), [gradient])


class _Checkpointed(Function):
    @staticmethod
    def forward(
        ctx: Any,
        compute: Compute,
        backward: Backward,
        replay: Replay,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.backward_pass, ctx.replay, ctx.parameters = backward, replay, parameters
        # The parameters are saved so that autograd notices a change in place.
        ctx.save_for_backward(z0, *parameters)
        with replay.first() as rhs:
            z1 = compute(rhs, z0)
        ctx.end = checksum([z1])
        return z1

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z0 = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[3])
        found = ctx.backward_pass(ctx.replay, z0, ctx.parameters, ctx.end, gradient)
        return (None, None, None, *found)
