"""What is stored within a budget: plans over numbers, before any tensor."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.binomial import recomputed_steps
from solvers.plan import BlockPlan, BlockSize, anode_peak, plan

BLOCKS = st.lists(
    st.builds(
        lambda n_steps, step, state, kept: (n_steps, step, state, kept),
        st.integers(1, 4),
        st.integers(5, 60),
        st.integers(1, 5),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=4,
)


def sizes(raw):
    """Blocks with what the layers in front of each keep, which adds up."""
    found, before = [], 0
    for n_steps, step, state, kept in raw:
        found.append(BlockSize(n_steps, step, state, before))
        before += state + kept
    return found


def peak(blocks, plans):
    """The most that is held at once, walking forwards and then backwards through the network."""
    held, most = [], 0
    for block, choice in zip(blocks, plans, strict=True):
        divided = 0 < choice.stored < block.n_steps
        held.append(choice.stored * block.step + (block.state if divided else 0))
        most = max(most, sum(held) + block.before + 3 * block.state)
    for block, choice in reversed(list(zip(blocks, plans, strict=True))):
        held.pop()
        left = block.n_steps - choice.stored
        if choice.checkpoints:
            again = choice.checkpoints * block.state + block.step
        else:
            again = left * block.step + (block.state if 0 < left < block.n_steps else 0)
        most = max(most, sum(held) + again + block.before + 3 * block.state)
    return most


@given(raw=BLOCKS)
def test_plan_holds_no_more_than_anode(raw):
    blocks = sizes(raw)
    anodes = [BlockPlan(0, None, 0) for block in blocks]
    assert anode_peak(blocks) == peak(blocks, anodes)
    assert peak(blocks, plan(blocks)) <= anode_peak(blocks)


@given(raw=BLOCKS, budget=st.integers(50, 400))
def test_plan_stays_within_its_budget_or_says_that_it_cannot(raw, budget):
    blocks = sizes(raw)
    least = max(b.before + 4 * b.state + b.step for b in blocks)
    if budget < least:
        with pytest.raises(ValueError, match=f"give at least {least}"):
            plan(blocks, budget)
    else:
        assert peak(blocks, plan(blocks, budget)) <= budget


@given(raw=BLOCKS, budget=st.one_of(st.none(), st.integers(50, 400)))
def test_no_plan_within_the_budget_costs_less(raw, budget):
    blocks = sizes(raw)
    allowed = anode_peak(blocks) if budget is None else budget
    choices = [
        [
            *(
                BlockPlan(s, None, (block.n_steps - s) * block.step)
                for s in range(block.n_steps + 1)
            ),
            *(
                BlockPlan(0, m, recomputed_steps(block.n_steps, m) * block.step)
                for m in range(1, block.n_steps + 1)
            ),
        ]
        for block in blocks
    ]
    fitting = [
        sum(choice.cost for choice in plans)
        for plans in product(*choices)
        if peak(blocks, plans) <= allowed
    ]
    if not fitting:
        with pytest.raises(ValueError, match="too small"):
            plan(blocks, budget)
    else:
        assert sum(choice.cost for choice in plan(blocks, budget)) == min(fitting)


def test_last_block_of_equal_ones_is_stored():
    blocks = [BlockSize(2, 100, 10), BlockSize(2, 100, 10, 10), BlockSize(2, 100, 10, 20)]
    assert [choice.stored for choice in plan(blocks)] == [0, 0, 2]


def test_no_more_than_the_first_block_of_a_pyramid_is_run_again():
    blocks = [BlockSize(8, 1000 // 2**i, 10 // 2**i, before=10 * i) for i in range(4)]
    assert sum(choice.cost for choice in plan(blocks)) <= 8 * 1000


def test_single_block_is_stored_as_a_whole():
    assert plan([BlockSize(5, 100, 10)]) == (BlockPlan(5, None, 0),)
