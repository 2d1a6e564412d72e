"""Methods that checkpoint inside a block: the same states, recomputed as often as promised."""

import pytest
import torch
from checkpoint_schedules import Forward, Move
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from bench.instruments.memory import peak_bytes
from solvers import GRADIENTS, METHODS, odeint
from solvers.binomial import recomputed_steps, schedule
from tests.solvers.right_hand_sides import Counting, Tanh, Tricky
from tests.solvers.test_exactness import observe


@given(
    seed=st.integers(0, 2**32),
    gradient=st.sampled_from(["anode-steps", "anode-revolve"]),
    m=st.integers(1, 6),
    method=st.sampled_from(list(METHODS)),
    n_steps=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    channels_last=st.booleans(),
    training=st.booleans(),
    autocast=st.booleans(),
    backwards=st.integers(1, 2),
    norm=st.booleans(),
    dropout=st.booleans(),
    time=st.booleans(),
    frozen=st.booleans(),
    unused=st.booleans(),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Softplus]),
)
@hypothesis_settings(max_examples=120)
def test_states_are_rebuilt_bit_for_bit(
    seed,
    gradient,
    m,
    method,
    n_steps,
    dtype,
    channels_last,
    training,
    autocast,
    backwards,
    **layers,
):
    """So the gradient in z0 has backprop's bits, and those in the parameters differ by the order
    of summation alone: not at all for Euler."""
    torch.manual_seed(seed)
    rhs = Tricky(**layers).to(dtype).train(training)
    z0 = torch.randn(3, 4, 5, 5, dtype=dtype)
    if channels_last:
        rhs = rhs.to(memory_format=torch.channels_last)
        z0 = z0.contiguous(memory_format=torch.channels_last)
    if gradient == "anode-revolve":
        gradient += f":m={min(m, n_steps)}"
    autocast = autocast and dtype == torch.float32
    case = {"method": method, "n_steps": n_steps, "autocast": autocast, "seed": seed % 1000}
    ours = observe(rhs, z0, gradient=gradient, backwards=backwards, **case)
    reference = observe(rhs, z0, gradient="backprop", backwards=backwards, **case)
    for name in reference:
        one, other = ours[name], reference[name]
        if one is None or other is None:
            assert one is other, name
        elif name.startswith("gradient of") and (method != "euler" or autocast):
            # Under autocast backprop sums in bfloat16, whose unit is 2⁻⁸.
            limit = {True: 2e-2, False: 1e-14 if dtype == torch.float64 else 1e-5}[autocast]
            assert float((one - other).norm()) <= limit * max(1e-30, float(other.norm())), name
        else:
            assert torch.equal(one, other), name


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


@pytest.mark.parametrize(
    ("n_steps", "m", "steps"),
    # One checkpoint: Nt(Nt - 1)/2 + Nt. As many as steps: each is advanced over once but the last.
    [(1, 1, 1), (5, 1, 15), (4, 2, 8), (10, 3, 25), (10, 10, 19)],
)
def test_binomial_formula(n_steps, m, steps):
    assert recomputed_steps(n_steps, m) == steps


@pytest.mark.parametrize("m", [1, 2, 3, 8])
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_backward_pass_evaluates_as_often_as_promised(method, m):
    rhs = Counting(Tanh())
    z0 = torch.ones(2, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method=method, n_steps=8, gradient=f"anode-revolve:m={m}")
    stages = METHODS[method].n_stages
    assert len(rhs.times) == 8 * stages
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == recomputed_steps(8, m) * stages


def test_one_checkpoint_a_step_recomputes_each_step_once():
    rhs = Counting(Tanh())
    z0 = torch.ones(2, 3, dtype=torch.float64)
    odeint(rhs, z0, method="rk2", n_steps=5, gradient="anode-steps").sum().backward()
    assert len(rhs.times) == 2 * 5 * 2


@pytest.mark.parametrize(
    ("gradient", "growth"),
    [
        ("backprop", 5),
        ("anode", 5),
        ("anode-steps", 1),
        ("anode-revolve:m=2", 0),
        ("reversible", 0),
        ("node", 0),
    ],
)
def test_memory_grows_by_so_many_states_a_step(gradient, growth):
    from models.resnet import right_hand_side

    torch.manual_seed(0)
    rhs = right_hand_side(16)
    z0 = torch.randn(8, 16, 32, 32, requires_grad=True)
    state = z0.numel() * 4

    def step(n_steps):
        rhs.zero_grad()
        odeint(rhs, z0, method="euler", n_steps=n_steps, gradient=gradient).sum().backward()

    peaks = [peak_bytes(lambda n=n: step(n), z0.device) for n in (8, 16)]
    assert (peaks[1] - peaks[0]) / (8 * state) == pytest.approx(growth, abs=0.05)


@pytest.mark.parametrize("m", [0, -1, 4])
def test_m_must_lie_between_one_and_the_number_of_steps(m):
    with pytest.raises(ValueError, match=r"needs 1 ≤ m ≤ Nt, and Nt is 3: choose m between"):
        odeint(Tanh(), torch.ones(1, 3), method="rk2", n_steps=3, gradient=f"anode-revolve:m={m}")


@pytest.mark.parametrize("n_steps", [1, 2, 3, 5])
def test_m_has_a_default_for_every_number_of_steps(n_steps):
    rhs = Tanh()
    z0 = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    odeint(rhs, z0, method="rk2", n_steps=n_steps, gradient="anode-revolve").sum().backward()
    assert z0.grad is not None


def test_missing_schedules_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package checkpoint-schedules: install it"):
        GRADIENTS["anode-revolve"].check("rk2", 2)
