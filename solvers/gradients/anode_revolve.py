"""Binomial checkpointing inside an ODE block: at most m states at a time."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from solvers.methods import METHODS, RightHandSide, Step, Tableau, advance, integrate, step_grid
from solvers.parameters import add, trainable_parameters, wants_gradient
from solvers.replay import Replay


@dataclass(frozen=True)
class AnodeRevolve:
    """Keeps the block's input; the backward pass keeps at most m states, the input among them.

    Which states are kept, and which steps are run again, is the schedule that recomputes least:
    `recomputed_steps(Nt, m)` steps in all. m of None means ⌈log₂ Nt⌉.

    Exact: the gradient in z0 is backprop's bit for bit, that in the parameters up to the order of
    summation. Memory O(L) + O(m) states plus what one step stores. Not where O(Nt) fits: anode
    recomputes every step but once.

    Source: Griewank & Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000); the schedules are
    those of the package checkpoint-schedules.
    """

    m: int | None = None

    @property
    def name(self) -> str:
        return "anode-revolve" if self.m is None else f"anode-revolve:m={self.m}"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless 1 ≤ m ≤ n_steps and the schedules are installed."""
        if importlib.util.find_spec("checkpoint_schedules") is None:
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


def recomputed_steps(n_steps: int, m: int) -> int:
    """Steps that the backward pass runs forward with m checkpoints, stored ones included.

    The closed form of Griewank & Walther (2000), r·Nt - β(m + 1, r - 1) with β(c, r) = (c + r)
    over c, plus the Nt steps whose values are stored to be differentiated.
    """
    r = 0
    while math.comb(m + r, m) < n_steps:
        r += 1
    return r * n_steps - (math.comb(m + r, m + 1) if r else 0) + n_steps


class Advance(NamedTuple):
    """Run steps begin … end - 1; keep: keep the state before them as a checkpoint."""

    begin: int
    end: int
    keep: bool


class Store(NamedTuple):
    """Run one step, storing what its differentiation needs."""

    step: int


class Reverse(NamedTuple):
    """Differentiate the step that is stored."""


class Restore(NamedTuple):
    """Go back to a checkpoint; last: it is not needed again."""

    step: int
    last: bool


Action = Advance | Store | Reverse | Restore


@lru_cache(maxsize=256)
def schedule(n_steps: int, m: int) -> tuple[Action, ...]:
    """The backward pass over n_steps steps with at most m checkpoints, recomputing least."""
    # Not installed everywhere, and needed here alone.
    from checkpoint_schedules import Copy, Forward, Move, MultistageCheckpointSchedule
    from checkpoint_schedules import Reverse as Adjoint

    actions: list[Action] = []
    for action in MultistageCheckpointSchedule(n_steps, m, 0):
        if isinstance(action, Forward) and action.write_adj_deps:
            actions.append(Store(action.n0))
        elif isinstance(action, Forward):
            actions.append(Advance(action.n0, action.n1, action.write_ics))
        elif isinstance(action, Adjoint):
            actions.append(Reverse())
        elif isinstance(action, Copy | Move):
            actions.append(Restore(action.n, last=isinstance(action, Move)))
    return tuple(actions)


class _Point(NamedTuple):
    """A state on the trajectory, and what the forward pass from there depends on besides it."""

    z: Tensor
    replay: Replay


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
        ctx.run = lambda z, begin, end: _advance(rhs, z, tableau, steps[begin:end])
        ctx.replay = Replay(rhs, z0.device)
        ctx.save_for_backward(z0, *parameters)
        with ctx.replay.first():
            z1: Tensor = ctx.run(z0, 0, n_steps)
            return z1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        start = _Point(ctx.saved_tensors[0].detach(), ctx.replay)
        adjoint, found = _follow(ctx.schedule, ctx.run, ctx.rhs, ctx.parameters, start, gradient)
        return (None, None, None, None, adjoint, *found)


def _advance(rhs: RightHandSide, z: Tensor, tableau: Tableau, steps: Sequence[Step]) -> Tensor:
    for step in steps:
        z = advance(rhs, z, tableau, step)
    return z


def _follow(
    actions: Sequence[Action],
    run: Callable[[Tensor, int, int], Tensor],
    rhs: RightHandSide,
    parameters: Sequence[Tensor],
    start: _Point,
    gradient: Tensor,
) -> tuple[Tensor, list[Tensor | None]]:
    """The gradients in the first state and in the parameters, along a schedule."""
    kept: dict[int, _Point] = {}
    current = start
    taped: tuple[Tensor, Tensor] | None = None
    found: list[Tensor | None] = [None] * len(parameters)
    for action in actions:
        if isinstance(action, Store):
            with current.replay.again():
                z = current.z.detach().requires_grad_()
                taped = z, run(z, action.step, action.step + 1)
        elif isinstance(action, Advance):
            if action.keep:
                kept[action.begin] = current
            with current.replay.again(), current.replay.first():
                z = run(current.z, action.begin, action.end)
                current = _Point(z, Replay(rhs, z.device))
        elif isinstance(action, Reverse):
            assert taped is not None, "a schedule stores a step before it reverses it"
            z, end = taped
            gradient, *parts = torch.autograd.grad(
                end, (z, *parameters), gradient, allow_unused=True
            )
            found = [add(total, part) for total, part in zip(found, parts, strict=True)]
            taped = None
        else:
            current = kept.pop(action.step) if action.last else kept[action.step]
    return gradient, found
