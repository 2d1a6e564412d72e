"""Methods that checkpoint inside a block: binomial schedules, and memory a step.

That states are rebuilt bit for bit: tests/solvers/test_exactness.py. How often steps are run
again: tests/solvers/test_methods.py.
"""

import pytest
import torch
from checkpoint_schedules import Forward, Move
from hypothesis import given
from hypothesis import strategies as st

from bench.instruments.memory import peak_bytes
from models.resnet import right_hand_side
from solvers import odeint
from solvers.binomial import recomputed_steps, schedule


@given(n_steps=st.integers(1, 60), m=st.integers(1, 12))
def test_schedule_recomputes_what_the_binomial_formula_says_and_keeps_at_most_m(n_steps, m):
    m = min(m, n_steps)
    actions = schedule(n_steps, m)
    forward = [action for action in actions if isinstance(action, Forward)]
    assert [a.n1 - a.n0 for a in forward if a.write_adj_deps] == [1] * n_steps
    assert sum(a.n1 - a.n0 for a in forward) == recomputed_steps(n_steps, m)
    kept, most = 0, 0
    for action in actions:
        kept += isinstance(action, Forward) and action.write_ics
        kept -= isinstance(action, Move)
        most = max(most, kept)
    assert most <= m


def peak_states(gradient, method, n_steps):
    """Peak memory of a step, in states."""
    torch.manual_seed(0)
    rhs, z0 = right_hand_side(16), torch.randn(4, 16, 16, 16, requires_grad=True)

    def step():
        rhs.zero_grad()
        odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient).sum().backward()

    return peak_bytes(step, z0.device) / z0.nbytes


@pytest.mark.parametrize(
    ("gradient", "method", "growth"),
    [
        ("backprop", "euler", 5),
        ("anode", "euler", 5),
        ("anode-steps", "euler", 1),
        ("anode-revolve:m=2", "euler", 0),
        ("reversible", "euler", 0),
        ("node", "euler", 0),
        ("symplectic", "rk2", 1),
        ("symplectic:m=2", "rk2", 0),
    ],
)
def test_memory_grows_by_that_number_of_states_a_step(gradient, method, growth):
    few, many = (peak_states(gradient, method, n_steps) for n_steps in (8, 16))
    assert (many - few) / 8 == pytest.approx(growth, abs=0.05)


@pytest.mark.parametrize(("gradient", "growth"), [("anode-steps", 5), ("symplectic", 2)])
def test_memory_grows_by_that_number_of_states_a_stage(gradient, growth):
    one, four = (peak_states(gradient, method, 2) for method in ("euler", "rk4"))
    assert (four - one) / 3 == pytest.approx(growth, abs=0.5)
