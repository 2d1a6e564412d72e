"""Plans within a budget, from sizes alone, without tensors."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.binomial import recomputed_steps
from solvers.gradients.anode_auto.plan import BlockPlan, BlockSize, anode_peak, plan

BLOCK = st.fixed_dictionaries(
    {
        "n_steps": st.integers(1, 3),
        "n_stages": st.integers(1, 3),
        "evaluation": st.integers(5, 60),  # bytes, as all below
        "state": st.integers(1, 5),
        "before": st.integers(0, 30),  # kept in front of the block
        "shared": st.booleans(),  # whether the right-hand side stores its input
        "parameters": st.integers(0, 9),
        "operations": st.integers(0, 500),  # of an evaluation's convolutions
    }
)
BLOCKS = st.lists(BLOCK, min_size=1, max_size=4)


def cost(block):
    """The cost of running one evaluation again."""
    return 2.6 * block.evaluation + block.operations / 20


def sizes(raw):
    """Blocks with what the layers in front of each keep, which adds up."""
    found, before = [], 0
    for block in raw:
        before += block["state"] + block["before"]
        shared = block["state"] if block["shared"] else 0
        found.append(BlockSize(**{**block, "before": before, "shared": shared}))
    return found


def peak(blocks, plans):
    """The most that is held at once, walking forwards and then backwards through the network."""
    held, most = [], 0
    for block, choice in zip(blocks, plans, strict=True):
        gradients = 3 * block.parameters if any(held) else 0
        is_whole = choice.stored == block.n_evaluations
        held.append(choice.stored * block.evaluation - (block.shared if is_whole else 0))
        most = max(most, sum(held) + block.before + 3 * block.state + gradients)
    for block, choice in reversed(list(zip(blocks, plans, strict=True))):
        held.pop()
        left = block.n_evaluations - choice.stored
        again = 0
        if choice.checkpoints:
            again = choice.checkpoints * block.state + block.n_stages * block.evaluation
        elif left:
            slopes = 1 + left % block.n_stages if choice.stored else 0
            again = left * block.evaluation - block.shared + slopes * block.state
        gradients = 3 * block.parameters if any(held) else 0
        most = max(most, sum(held) + again + block.before + 3 * block.state + gradients)
    return most


@given(raw=BLOCKS)
def test_plan_holds_no_more_than_anode(raw):
    blocks = sizes(raw)
    anodes = [BlockPlan(0, None, 0) for block in blocks]
    result = max(block.state for block in blocks)
    assert peak(blocks, anodes) <= anode_peak(blocks) <= peak(blocks, anodes) + result
    assert peak(blocks, plan(blocks)) <= anode_peak(blocks)


@given(raw=BLOCKS, budget=st.integers(50, 400))
def test_plan_stays_within_its_budget_or_says_that_it_cannot(raw, budget):
    blocks = sizes(raw)
    least = max(b.before + 4 * b.state + b.n_stages * b.evaluation for b in blocks)
    try:
        plans = plan(blocks, budget)
    except ValueError as error:
        plans, said = None, str(error)
    if plans is None:
        assert budget < least
        assert f"give at least {least}" in said
    else:
        assert peak(blocks, plans) <= budget


@given(
    raw=st.lists(BLOCK, min_size=1, max_size=3),
    budget=st.one_of(st.none(), st.integers(50, 400)),
)
@settings(max_examples=60)
def test_no_plan_within_the_budget_costs_less(raw, budget):
    blocks = sizes(raw)
    allowed = anode_peak(blocks) if budget is None else budget
    choices = [
        [
            *(
                BlockPlan(s, None, (block.n_evaluations - s) * cost(block))
                for s in range(block.n_evaluations + 1)
            ),
            *(
                BlockPlan(0, m, recomputed_steps(block.n_steps, m) * block.n_stages * cost(block))
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
        assert sum(choice.cost for choice in plan(blocks, budget)) == pytest.approx(min(fitting))


def test_plan_of_many_steps_is_made_at_once():
    blocks = [BlockSize(1000, 4, 50 + i, 10, before=20 * i) for i in range(8)]
    assert anode_peak(blocks) >= peak(blocks, plan(blocks))
