"""Binomial checkpointing: run steps backwards with at most m states kept."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

from solvers.methods import RightHandSide
from solvers.parameters import add, differentiate
from solvers.replay import Replay

Run = Callable[[Tensor, int, int], Tensor]
"""run(z, begin, end): the state after steps begin … end - 1 from z."""


def is_available() -> bool:
    """Whether the package that has the schedules is installed."""
    return importlib.util.find_spec("checkpoint_schedules") is not None


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


class Point(NamedTuple):
    """A state on the trajectory, and what the forward pass from there depends on besides it."""

    z: Tensor
    replay: Replay


def follow(
    actions: Sequence[Action],
    run: Run,
    rhs: RightHandSide,
    parameters: Sequence[Tensor],
    start: Point,
    gradient: Tensor,
) -> tuple[Tensor, list[Tensor | None]]:
    """The gradients in the first state and in the parameters, along a schedule."""
    kept: dict[int, Point] = {}
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
                current = Point(z, Replay(rhs, z.device))
        elif isinstance(action, Reverse):
            assert taped is not None, "a schedule stores a step before it reverses it"
            z, end = taped
            gradient, *parts = differentiate([end], (z, *parameters), [gradient])
            found = [add(total, part) for total, part in zip(found, parts, strict=True)]
            taped = None
        else:
            current = kept.pop(action.step) if action.last else kept[action.step]
    return gradient, found
