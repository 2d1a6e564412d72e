"""Which steps of a network's ODE blocks to store in the forward pass, within a memory budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from solvers.binomial import is_available, recomputed_steps


@dataclass(frozen=True)
class BlockSize:
    """What one ODE block weighs. All in bytes.

    step: what the differentiation of one of its steps needs. state: its z. before: what the layers
    in front of the block keep for the backward pass, inputs of blocks among them, counted from the
    first block on.
    """

    n_steps: int
    step: int
    state: int
    before: int = 0


@dataclass(frozen=True)
class BlockPlan:
    """stored: how many of a block's last steps are stored. The others are run again in the backward
    pass, after the stored ones are done with: all at once, or, where not even they fit, with at
    most `checkpoints` states by the binomial schedule. cost: that of all steps run again, in bytes
    that they store."""

    stored: int
    checkpoints: int | None
    cost: int


def anode_peak(blocks: Sequence[BlockSize]) -> int:
    """The most that ANODE holds at once: all steps of one block, and what stands before it."""
    return max(_least(block) + block.n_steps * block.step for block in blocks)


def plan(blocks: Sequence[BlockSize], budget: int | None = None) -> tuple[BlockPlan, ...]:
    """A plan for each block, in the order of the network, that holds at most `budget` bytes.

    Of all such plans the one whose steps that are run again cost least, and of those the one that
    holds least. The time of a step is taken to be proportional to the bytes that it stores: layers
    like these are bound by memory. A budget of None is `anode_peak`. Raises ValueError when
    nothing fits.
    """
    allowed = anode_peak(blocks) if budget is None else budget
    # After each block, the bytes stored so far → the cheapest plan. A plan that holds more than
    # another and costs as much is dropped.
    front: dict[int, tuple[BlockPlan, ...]] = {0: ()}
    for block in blocks:
        extended: dict[int, tuple[BlockPlan, ...]] = {}
        for held, so_far in front.items():
            for choice, more in _choices(block, allowed - held):
                candidate = (*so_far, choice)
                known = extended.get(held + more)
                if known is None or _cost(candidate) < _cost(known):
                    extended[held + more] = candidate
        front = _undominated(extended)
    if not front:
        least = max(_least(block) + block.state + block.step for block in blocks)
        raise ValueError(
            f"a budget of {budget} bytes is too small for these blocks: give at least {least}"
        )
    return min(front.values(), key=_cost)


def _choices(block: BlockSize, free: int) -> Iterator[tuple[BlockPlan, int]]:
    """What can be done with a block in so many free bytes, and what it then holds of them."""
    free -= _least(block)
    for stored in range(block.n_steps, -1, -1):
        left = block.n_steps - stored
        # A divided block keeps the state in its middle, and then the gradient there, beside that
        # at its end.
        middle = block.state if stored and left else 0
        held = stored * block.step + middle
        if max(held, left * block.step + middle) <= free:
            yield BlockPlan(stored, None, left * block.step), held
    m = min((free - block.step) // block.state, block.n_steps)
    if m >= 1 and is_available():
        yield BlockPlan(0, m, recomputed_steps(block.n_steps, m) * block.step), 0


def _least(block: BlockSize) -> int:
    # Beside what stands before it: the state, its gradient and a temporary of their size.
    return block.before + 3 * block.state


def _cost(plans: Sequence[BlockPlan]) -> int:
    return sum(choice.cost for choice in plans)


def _undominated(plans: dict[int, tuple[BlockPlan, ...]]) -> dict[int, tuple[BlockPlan, ...]]:
    kept: dict[int, tuple[BlockPlan, ...]] = {}
    for held in sorted(plans):
        if not kept or _cost(plans[held]) < _cost(next(reversed(kept.values()))):
            kept[held] = plans[held]
    return kept
