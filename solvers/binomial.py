"""Binomial checkpointing: differentiate steps in reverse order with at most m states stored."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from solvers.integrate import RightHandSide
from solvers.parameters import add, differentiate, edges
from solvers.proof import Checksum, checksum, require_same
from solvers.replay import Replay

Run = Callable[[RightHandSide, Tensor, int, int], Tensor]
"""run(rhs, z, begin, end): the state after steps begin … end - 1 from z."""


def is_available() -> bool:
    """Return whether the package with the schedules is installed."""
    return importlib.util.find_spec("checkpoint_schedules") is not None


def recomputed_steps(n_steps: int, m: int) -> int:
    """Number of steps that the backward pass runs forward with m checkpoints: the closed form of
    Griewank & Walther (2000), r·Nt - β(m + 1, r - 1) with β(c, r) = (c + r) over c, plus the Nt
    steps that are differentiated."""
    r = 0
    while math.comb(m + r, m) < n_steps:
        r += 1
    return r * n_steps - (math.comb(m + r, m + 1) if r else 0) + n_steps


@lru_cache(maxsize=256)
def schedule(n_steps: int, m: int) -> tuple[Any, ...]:
    """The backward pass over n_steps steps with at most m checkpoints that recomputes least, as
    actions of checkpoint_schedules."""
    from checkpoint_schedules import MultistageCheckpointSchedule  # takes half a second

    return tuple(MultistageCheckpointSchedule(n_steps, m, 0))


def run_schedule(
    actions: Sequence[Any],
    run: Run,
    replay: Replay,
    z0: Tensor,
    parameters: Sequence[Tensor],
    end: Sequence[Checksum],
    gradient: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients in z0 and in the parameters, by the actions of a schedule.

    replay: of the whole forward pass. Raises InexactError unless the last step ends in a state with
    the checksum `end`, and each other step in the state in which the next one begins.
    """
    from checkpoint_schedules import Copy, Forward, Move, Reverse

    kept: dict[int, tuple[Tensor, Replay]] = {}
    z = z0.detach()
    found: list[Tensor | None] = [None] * len(parameters)
    for action in actions:
        if isinstance(action, Forward) and action.write_adj_deps:
            with replay.again() as f:
                start = z.detach().requires_grad_()
                result = run(f, start, action.n0, action.n1)
            require_same([result], end)
            end, ends = checksum([start]), edges([result])
            del result  # its value is not needed
        elif isinstance(action, Forward):
            if action.write_ics:
                kept[action.n0] = z, replay
            with replay.again(), replay.first() as f:
                z, replay = run(f, z, action.n0, action.n1), replay.renewed()
        elif isinstance(action, Reverse):  # differentiates the step that was just stored
            gradient, *parts = differentiate(ends, (start, *parameters), [gradient])
            found = [add(total, part) for total, part in zip(found, parts, strict=True)]
            del start
        elif isinstance(action, Copy | Move):
            z, replay = kept.pop(action.n) if isinstance(action, Move) else kept[action.n]
    return (gradient, *found)
