"""Binomial checkpointing: run steps backwards with at most m states kept."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from torch import Tensor

from solvers.methods import RightHandSide
from solvers.parameters import add, differentiate, edges
from solvers.proof import Checksum, checksum, require_same
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


@lru_cache(maxsize=256)
def schedule(n_steps: int, m: int) -> tuple[Any, ...]:
    """The backward pass over n_steps steps with at most m checkpoints, recomputing least, as
    actions of checkpoint_schedules."""
    # Not installed everywhere, and needed here alone.
    from checkpoint_schedules import MultistageCheckpointSchedule

    return tuple(MultistageCheckpointSchedule(n_steps, m, 0))


class Point(NamedTuple):
    """A state on the trajectory, and what the forward pass from there depends on besides it."""

    z: Tensor
    replay: Replay


def follow(
    actions: Sequence[Any],
    run: Run,
    rhs: RightHandSide,
    replay: Replay,
    z0: Tensor,
    parameters: Sequence[Tensor],
    end: Sequence[Checksum],
    gradient: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients in z0 and in the parameters, along a schedule; replay: of the whole.

    Raises InexactError unless the steps that are stored lead from z0 to a state with the checksum
    `end`, each to where the next one begins.
    """
    from checkpoint_schedules import Copy, Forward, Move, Reverse

    kept: dict[int, Point] = {}
    current = Point(z0.detach(), replay)
    found: list[Tensor | None] = [None] * len(parameters)
    for action in actions:
        if isinstance(action, Forward) and action.write_adj_deps:
            with current.replay.again():
                z = current.z.detach().requires_grad_()
                result = run(z, action.n0, action.n1)
            require_same([result], end)
            end, ends = checksum([z]), edges([result])
            del result  # its value is not needed
        elif isinstance(action, Forward):
            if action.write_ics:
                kept[action.n0] = current
            with current.replay.again(), current.replay.first():
                current = Point(run(current.z, action.n0, action.n1), Replay(rhs, z0.device))
        elif isinstance(action, Reverse):  # of the one step that is stored
            gradient, *parts = differentiate(ends, (z, *parameters), [gradient])
            found = [add(total, part) for total, part in zip(found, parts, strict=True)]
            del z
        elif isinstance(action, Copy | Move):
            current = kept.pop(action.n) if isinstance(action, Move) else kept[action.n]
    return (gradient, *found)
