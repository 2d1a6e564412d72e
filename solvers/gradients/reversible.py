"""An algebraically reversible scheme over any Runge–Kutta method."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from solvers.integrate import RightHandSide, Step, advance, step_grid
from solvers.methods import METHODS, Tableau
from solvers.parameters import add, differentiate, edges, trainable_parameters, wants_gradient
from solvers.proof import first_order, require_close, signed_sums
from solvers.replay import Replay


@dataclass(frozen=True)
class Reversible:
    """Two coupled states (y, z), stepped so that a step can be undone by algebra.

    With Ψ the increment of the method, y₊ = λy + (1-λ)z + Ψ(dt, z) and z₊ = z - Ψ(-dt, y₊), which
    give back z and y. The backward pass undoes and differentiates step by step. The result is y(1):
    another discretisation of the same order, with twice the evaluations; the gradient is exact for
    it, up to rounding in the undone steps. Memory O(1) in the number of steps. λ < 1 damps the
    difference between y and z, but undoing a step amplifies rounding by 1/λ.

    Undone steps round differently, so no checksum can prove that f was the same. z(0) is summed up
    in N = 1000 parts, its values with random signs, and the backward pass raises InexactError
    unless each sum returns up to √(ε/N)·‖z(0)‖₂, ε being the unit of rounding. A change of f that
    moves no sum by more, as of an f far smaller than z, is not noticed.

    Source: McCallum & Foster, "Efficient, Accurate and Stable Gradients for Neural ODEs"
    (2024), equations 4 and 5.
    """

    coupling: float = 0.99

    is_capturable = True

    @property
    def name(self) -> str:
        default = type(self).coupling
        return "reversible" + ("" if self.coupling == default else f":coupling={self.coupling:g}")

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless 0 < coupling ≤ 1."""
        if not (math.isfinite(self.coupling) and 0 < self.coupling <= 1):
            raise ValueError(f"{self.name} needs 0 < coupling ≤ 1: choose one, as 0.99")

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        pair = CoupledPair.of(rhs, METHODS.resolve(method), self.coupling, n_steps, z0)
        parameters = trainable_parameters(rhs)
        if not wants_gradient(z0, parameters):
            return pair.solve(z0)[0]
        z0 = z0.contiguous() if 0 in z0.stride() else z0  # expanded: one order in memory
        z1: Tensor = _Reversed.apply(pair, z0, *parameters)
        return z1


@dataclass(frozen=True)
class CoupledPair:
    """The scheme's steps: there[n] is the n-th step, and back[n] the same interval backwards."""

    rhs: RightHandSide
    tableau: Tableau
    coupling: float
    there: tuple[Step, ...]
    back: tuple[Step, ...]

    @classmethod
    def of(
        cls, rhs: RightHandSide, tableau: Tableau, coupling: float, n_steps: int, z0: Tensor
    ) -> "CoupledPair":
        there = step_grid(tableau, n_steps, z0.dtype, z0.device)
        back = step_grid(tableau, n_steps, z0.dtype, z0.device, backwards=True)
        return cls(rhs, tableau, coupling, there, back[::-1])

    def increment(self, z: Tensor, step: Step) -> Tensor:
        return advance(self.rhs, z, self.tableau, (step,)) - z

    def solve(
        self, z0: Tensor, before_increment: Callable[[], object] = lambda: None
    ) -> tuple[Tensor, Tensor]:
        y = z = z0
        for there, back in zip(self.there, self.back, strict=True):
            before_increment()
            y = self.coupling * y + (1 - self.coupling) * z + self.increment(z, there)
            before_increment()
            z = z - self.increment(y, back)
        return y, z

    def undo(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The pair that `solve` began with, from the one it ended with, up to rounding."""
        for there, back in zip(reversed(self.there), reversed(self.back), strict=True):
            z = z + self.increment(y, back)
            y = self.y_before(y, z, self.increment(z, there))
        return y, z

    def y_before(self, y: Tensor, z: Tensor, increment: Tensor) -> Tensor:
        """y before a step that began at z and had this increment."""
        return (y - (1 - self.coupling) * z - increment) / self.coupling


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pair: CoupledPair, z0: Tensor, *parameters: Tensor) -> Tensor:
        ctx.pair, ctx.parameters = pair, parameters
        ctx.replays, ctx.whole = [], Replay(pair.rhs, z0.device)
        with ctx.whole.first() as rhs:
            y, z = replace(pair, rhs=rhs).solve(
                z0, lambda: ctx.replays.append(Replay(pair.rhs, z0.device))
            )
        ctx.save_for_backward(y, z, *parameters)
        kind = z0.device.type
        rounding = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z0.dtype
        ctx.start = signed_sums(z0)
        ctx.tolerance = math.sqrt(torch.finfo(rounding).eps / len(ctx.start)) * z0.norm()
        return y.clone()  # the saved state must not be the output, which others may change

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pair: CoupledPair = ctx.pair
        c = pair.coupling
        ctx.whole.require_parameters()
        replays = [*ctx.replays]
        found: list[Tensor | None] = [None] * len(ctx.parameters)

        def differentiated(z: Tensor, step: Step, gradient: Tensor) -> tuple[Tensor, Tensor]:
            """Ψ at z and its gradient in z; those in the parameters are added to `found`."""
            with replays.pop().again():
                z = z.detach().requires_grad_()
                increment = pair.increment(z, step)
            ends, increment = edges([increment]), increment.detach()
            part, *parts = differentiate(ends, (z, *ctx.parameters), [gradient])
            found[:] = map(add, found, parts)
            return increment, torch.zeros_like(z) if part is None else part

        y, z = (state.detach() for state in ctx.saved_tensors[:2])
        y_adjoint, z_adjoint = gradient, torch.zeros_like(gradient)
        for there, back in zip(reversed(pair.there), reversed(pair.back), strict=True):
            # Undo z₊ = z - Ψ(-dt, y₊), and its part of the adjoint.
            increment, part = differentiated(y, back, -z_adjoint)
            z = z + increment
            y_adjoint = y_adjoint + part
            del increment, part
            # Undo y₊ = cy + (1-c)z + Ψ(dt, z), and its part.
            increment, part = differentiated(z, there, y_adjoint)
            y = pair.y_before(y, z, increment)
            z_adjoint = z_adjoint + (1 - c) * y_adjoint + part
            y_adjoint = c * y_adjoint
            del increment, part
        for start in (y, z):
            require_close(signed_sums(start), ctx.start, ctx.tolerance)
        return (None, y_adjoint + z_adjoint, *found)
