"""The backward pass of ANODE's public code, as it was published."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from solvers import METHODS, RightHandSide, Tableau
from solvers.integrate import advance, step_grid
from solvers.parameters import trainable_parameters
from solvers.proof import first_order


class Original:
    """anode's schedule, differentiated twice: once for z(0) and once for the parameters.

    As in the published code, running the block again updates BatchNorm's running statistics again,
    and dropout, autocast and a change of mode are not handled: for comparing costs alone. Its steps
    use the operations of the published time-stepping schemes.

    Source: github.com/amirgholami/anode, anode/adjoint.py and anode/scheme.py.
    """

    name = "original"
    reproduces = "backprop"

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        z1: Tensor = _Twice.apply(rhs, tableau, n_steps, z0, *trainable_parameters(rhs))
        return z1


class _Twice(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rhs: RightHandSide,
        tableau: Tableau,
        n_steps: int,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        grid = step_grid(tableau, n_steps, z0.dtype, z0.device)
        steps = [replace(step, length=None) for step in grid]
        ctx.solve = lambda z: advance(rhs, z, tableau, steps)
        ctx.save_for_backward(z0, *parameters)
        with torch.no_grad():
            z1: Tensor = ctx.solve(z0)
            return z1

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z0, *parameters = ctx.saved_tensors
        with torch.enable_grad():
            z = z0.detach().requires_grad_()
            z1 = ctx.solve(z)
        of_parameters = torch.autograd.grad(
            z1, parameters, gradient, allow_unused=True, retain_graph=True
        )
        (of_state,) = torch.autograd.grad(z1, z, gradient)
        return (None, None, None, of_state, *of_parameters)


ORIGINAL = Original()
