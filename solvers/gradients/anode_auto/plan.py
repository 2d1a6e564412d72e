"""Plan of what the forward pass of a network's ODE blocks stores, within a memory budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from solvers.binomial import is_available, recomputed_steps

WORKSPACE = 3
"""Additional states while a block is differentiated: the gradient of its result, and an operator's
incoming and outgoing gradient."""

_MOVES = 2.6
"""Bytes moved for each stored byte of an evaluation."""

_BALANCE = 20
"""Floating-point operations of a convolution in the time that moving a byte takes. Both constants
are fitted to two CPU cores: docs/performance.md."""

_SPLITS = 64
"""Largest number of places at which a block may be divided, so that planning is fast."""


@dataclass(frozen=True)
class BlockSize:
    """Memory and cost of one ODE block, in bytes except for the counts.

    evaluation: stored by one evaluation for its differentiation, its input included; shared: the
    part of that in the block's own input. state: z. before: stored by the layers in front of the
    block, its input included, from the first block on. parameters: those of the right-hand side.
    operations: floating-point operations of the convolutions of an evaluation.
    """

    n_steps: int
    n_stages: int
    evaluation: int
    state: int
    before: int
    shared: int = 0
    parameters: int = 0
    operations: int = 0

    @property
    def n_evaluations(self) -> int:
        return self.n_steps * self.n_stages

    @property
    def cost(self) -> float:
        """Cost of running an evaluation again, in bytes moved."""
        return _MOVES * self.evaluation + self.operations / _BALANCE

    def first(self, evaluations: int) -> int:
        """Bytes that its first evaluations store, beside its input."""
        return evaluations * self.evaluation - (self.shared if evaluations else 0)

    def last(self, evaluations: int) -> int:
        """Bytes that its last evaluations store, beside its input."""
        whole = evaluations == self.n_evaluations
        return self.first(evaluations) if whole else evaluations * self.evaluation


@dataclass(frozen=True)
class BlockPlan:
    """stored: number of a block's last evaluations that are stored. The others are run again after
    these are differentiated: all at once, or, where they do not fit, with at most `checkpoints`
    states by the binomial schedule. cost: of all that is run again, in bytes moved."""

    stored: int
    checkpoints: int | None
    cost: float


def anode_peak(blocks: Sequence[BlockSize]) -> int:
    """Peak of ANODE: all of one block, and what the layers before it store."""
    # ANODE holds the block's result as well. With one step the gradient that arrives is that of the
    # last slope, too.
    return max(
        block.before
        + (WORKSPACE + (block.n_steps > 1)) * block.state
        + block.first(block.n_evaluations)
        for block in blocks
    )


def plan(blocks: Sequence[BlockSize], budget: int | None = None) -> tuple[BlockPlan, ...]:
    """A plan for each block, in the order of the network, that holds at most `budget` bytes.

    Of all such plans the one whose evaluations that are run again cost least, and of those the one
    that holds least. A budget of None is `anode_peak`. Raises ValueError when nothing fits.
    """
    allowed = anode_peak(blocks) if budget is None else budget
    binomial = is_available()
    # After each block, the bytes stored so far → the cheapest plan. A plan that holds more than
    # another and costs as much is dropped.
    front: dict[int, tuple[BlockPlan, ...]] = {0: ()}
    for block in blocks:
        extended: dict[int, tuple[BlockPlan, ...]] = {}
        for held, so_far in front.items():
            for choice, more in _choices(block, allowed, held, binomial):
                candidate = (*so_far, choice)
                known = extended.get(held + more)
                if known is None or _cost(candidate) < _cost(known):
                    extended[held + more] = candidate
        front = _undominated(extended)
    if not front:
        least = max(
            block.before + (WORKSPACE + 1) * block.state + block.n_stages * block.evaluation
            for block in blocks
        )
        raise ValueError(
            f"a budget of {budget} bytes is too small for these blocks: give at least {least}"
        )
    return min(front.values(), key=_cost)


def _choices(
    block: BlockSize, allowed: int, held: int, binomial: bool
) -> Iterator[tuple[BlockPlan, int]]:
    """The choices for a block within `allowed` bytes, of which earlier blocks use `held`; and the
    bytes that each choice uses until the backward pass."""
    free = allowed - held - block.before - WORKSPACE * block.state
    if held:
        # Sums of their gradients, and what is added to them. Where nothing is held the block is
        # on its own, as it is with ANODE.
        free -= 3 * block.parameters
    whole = block.n_evaluations
    for stored in range(whole, -1, -max(1, whole // _SPLITS)):
        left = whole - stored
        # Where a block is divided, autograd still holds the gradient of its result; where a step is
        # divided, its slopes have gradients too.
        again = block.first(left) + (1 + left % block.n_stages) * block.state * (0 < stored < whole)
        if max(more := block.last(stored), again) <= free:
            yield BlockPlan(stored, None, left * block.cost), more
    step = block.n_stages * block.evaluation
    m = min((free - step) // max(1, block.state), block.n_steps) if binomial else 0
    if m >= 1:
        evaluations = recomputed_steps(block.n_steps, m) * block.n_stages
        yield BlockPlan(0, m, evaluations * block.cost), 0


def _cost(plans: Sequence[BlockPlan]) -> float:
    return sum(choice.cost for choice in plans)


def _undominated(plans: dict[int, tuple[BlockPlan, ...]]) -> dict[int, tuple[BlockPlan, ...]]:
    kept: dict[int, tuple[BlockPlan, ...]] = {}
    for held in sorted(plans):
        if not kept or _cost(plans[held]) < _cost(next(reversed(kept.values()))):
            kept[held] = plans[held]
    return kept
