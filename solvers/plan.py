"""Which steps of a network's ODE blocks to store in the forward pass, within a memory budget."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockSize:
    """What one ODE block weighs. All in bytes.

    step: what the differentiation of one of its steps needs. before: what the layers in front of
    the block keep for the backward pass, the inputs of the blocks among them, counted from the
    first block on. state: its z.
    """

    n_steps: int
    step: int
    state: int
    before: int = 0


def anode_peak(blocks: Sequence[BlockSize]) -> int:
    """The most that ANODE holds at once: all steps of one block and what stands before it."""
    return max(_others(block) + block.n_steps * block.step for block in blocks)


def plan(blocks: Sequence[BlockSize], budget: int | None = None) -> tuple[int, ...]:
    """For each block, in the order of the network, how many of its last steps to store.

    The others are run again in the backward pass, all of a block at once when its stored ones are
    done with. The most steps that fit are stored, so the fewest are run again; of plans that
    store as many, the one that holds least. At no time is more held than `budget` bytes, but that
    a block which does not fit by itself is run again as a whole; None is `anode_peak`.
    """
    budget = anode_peak(blocks) if budget is None else budget
    # After each block: bytes stored so far → the plan that stores most steps. A plan that holds
    # more and stores no more than another is dropped.
    front: dict[int, tuple[int, ...]] = {0: ()}
    for block in blocks:
        extended: dict[int, tuple[int, ...]] = {}
        for held, plan_so_far in front.items():
            for stored in range(block.n_steps + 1):
                # First the stored steps are done with, and then the others are run again. A
                # block that is divided keeps the state where it is.
                middle = block.state if 0 < stored < block.n_steps else 0
                largest = max(stored * block.step + middle, (block.n_steps - stored) * block.step)
                is_anodes = not held and not stored
                if held + largest + _others(block) > budget and not is_anodes:
                    continue
                after = held + stored * block.step + middle
                candidate = (*plan_so_far, stored)
                if sum(candidate) >= sum(extended.get(after, ())):
                    extended[after] = candidate
        front = _undominated(extended)
    return max(front.values(), key=sum)


def _others(block: BlockSize) -> int:
    # The state, its gradient and a temporary of their size.
    return block.before + 3 * block.state


def _undominated(plans: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    kept: dict[int, tuple[int, ...]] = {}
    most = -1
    for held in sorted(plans):
        if sum(plans[held]) > most:
            kept[held] = plans[held]
            most = sum(plans[held])
    return kept
