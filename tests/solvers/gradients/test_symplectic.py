"""symplectic: backprop's gradient with the graph of one evaluation at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from bench import data
from bench.experiment import Experiment
from bench.instruments.memory import peak_bytes
from bench.studies.study import FOUR_NETWORKS
from bench.suites import SUITES
from models.resnet import right_hand_side
from solvers import METHODS, Tableau, odeint
from solvers.binomial import recomputed_steps
from solvers.methods import Combination
from tests.bench.builders import CPU
from tests.solvers.right_hand_sides import Counting, Tanh, Tricky
from tests.solvers.test_exactness import observe

HEUN3 = Tableau(
    "heun3",
    3,
    (0.0, 1 / 3, 2 / 3),
    (Combination((1.0,), 1 / 3), Combination((0.0, 2.0), 1 / 3)),
    Combination((1.0, 0.0, 3.0), 1 / 4),
    None,
)
"""A scheme whose second weight b is 0, which the published recursion treats as a special case."""

SCHEMES = [*METHODS.values(), HEUN3]


@given(
    seed=st.integers(0, 2**32),
    m=st.none() | st.integers(1, 4),
    method=st.sampled_from(SCHEMES),
    n_steps=st.integers(1, 5),
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
def test_gradient_in_z0_has_backprops_bits_and_those_in_parameters_another_order_of_summation(
    seed,
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
    torch.manual_seed(seed)
    rhs = Tricky(**layers).to(dtype).train(training)
    z0 = torch.randn(3, 4, 5, 5, dtype=dtype)
    if channels_last:
        rhs = rhs.to(memory_format=torch.channels_last)
        z0 = z0.contiguous(memory_format=torch.channels_last)
    gradient = "symplectic" if m is None else f"symplectic:m={min(m, n_steps)}"
    autocast = autocast and dtype == torch.float32
    case = {"method": method, "n_steps": n_steps, "autocast": autocast, "seed": seed % 1000}
    ours = observe(rhs, z0, gradient=gradient, backwards=backwards, **case)
    reference = observe(rhs, z0, gradient="backprop", backwards=backwards, **case)
    assert ours.keys() == reference.keys()
    for name in reference:
        one, other = ours[name], reference[name]
        if one is None or other is None:
            assert one is other, name
        elif name.startswith("gradient of"):
            # Under autocast backprop sums in bfloat16, whose unit is 2⁻⁸.
            limit = {True: 2e-2, False: 1e-14 if dtype == torch.float64 else 1e-5}[autocast]
            assert float((one - other).norm()) <= limit * max(1e-30, float(other.norm())), name
        else:
            assert torch.equal(one, other), name


@pytest.mark.parametrize("method", SCHEMES, ids=lambda tableau: tableau.name)
def test_gradient_agrees_with_the_published_recursion(method):
    """κᵢ = h bᵢ λ + h Σ_{j>i} aⱼᵢ μⱼ, μᵢ = J(Yᵢ)ᵀ κᵢ, λ += Σ μᵢ, written out."""
    torch.manual_seed(0)
    rhs = Counting(Tanh())
    z0 = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    n_steps, h = 3, 1 / 3
    z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient="symplectic")
    stages, adjoint = list(rhs.states), torch.randn_like(z1)
    expected, in_parameter = adjoint, 0
    a = [(), *([w * c.scale for w in c.weights] for c in method.stages)]
    b = [weight * method.update.scale for weight in method.update.weights]
    for step in reversed(range(n_steps)):
        mu = {}
        for i in reversed(range(method.n_stages)):
            kappa = h * b[i] * expected + h * sum(a[j][i] * mu[j] for j in mu)
            y = stages[step * method.n_stages + i].requires_grad_()
            slope = rhs.inner(None, y)
            mu[i], part = torch.autograd.grad(slope, (y, rhs.inner.matrix), kappa)
            in_parameter = in_parameter + part
        expected = expected + sum(mu.values())
    found = torch.autograd.grad(z1, (z0, rhs.inner.matrix), adjoint)
    torch.testing.assert_close(found, (expected, in_parameter), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_backward_pass_evaluates_each_stage_twice(method):
    rhs = Counting(Tanh())
    z0 = torch.ones(2, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method=method, n_steps=4, gradient="symplectic")
    evaluations = 4 * METHODS[method].n_stages
    assert len(rhs.times) == evaluations
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == 2 * evaluations


def test_with_m_steps_are_run_again_by_the_binomial_schedule():
    rhs = Counting(Tanh())
    z0 = torch.ones(2, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method="rk2", n_steps=7, gradient="symplectic:m=2")
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == 2 * (recomputed_steps(7, 2) + 7)


def peak_states(gradient, method, n_steps):
    torch.manual_seed(0)
    rhs, z0 = right_hand_side(16), torch.randn(8, 16, 32, 32, requires_grad=True)

    def step():
        rhs.zero_grad()
        odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient).sum().backward()

    return peak_bytes(step, z0.device) / z0.nbytes


@pytest.mark.parametrize(("gradient", "growth"), [("symplectic", 1), ("symplectic:m=2", 0)])
def test_memory_grows_by_so_many_states_a_step(gradient, growth):
    few, many = (peak_states(gradient, "rk2", n_steps) for n_steps in (8, 16))
    assert (many - few) / 8 == pytest.approx(growth, abs=0.05)


def test_memory_grows_by_two_states_a_stage_at_most_where_anode_steps_stores_five():
    stages = (1, 4)
    symplectic, steps = (
        [peak_states(gradient, method, 2) for method in ("euler", "rk4")]
        for gradient in ("symplectic", "anode-steps")
    )
    assert math.isclose((steps[1] - steps[0]) / (stages[1] - stages[0]), 5, abs_tol=0.5)
    assert (symplectic[1] - symplectic[0]) / (stages[1] - stages[0]) <= 2.1


class Returning(nn.Module):
    """f whose slope is a tensor that it keeps."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, t, z):
        return self.kept


@pytest.mark.parametrize("trainable", [False, True])
def test_right_hand_side_may_return_a_tensor_that_it_keeps(trainable):
    kept = torch.ones(2, 3, dtype=torch.float64)
    rhs = Returning(nn.Parameter(kept) if trainable else kept)
    z0 = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        odeint(rhs, z0, method="rk2", n_steps=2, gradient="symplectic").sum().backward()
    assert torch.equal(z0.grad, 2 * torch.ones_like(z0))
    assert rhs.kept.is_leaf
    assert rhs.kept.requires_grad == trainable
    if trainable:
        assert torch.equal(rhs.kept.grad, 2 * torch.ones_like(z0))


@pytest.mark.parametrize("m", [0, -1, 4])
def test_m_must_lie_between_one_and_the_number_of_steps(m):
    with pytest.raises(ValueError, match=rf"symplectic:m={m} needs 1 ≤ m ≤ Nt, and Nt is 3"):
        odeint(Tanh(), torch.ones(1, 3), method="rk2", n_steps=3, gradient=f"symplectic:m={m}")


def test_only_m_needs_the_schedules(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    z0 = torch.ones(1, 3, dtype=torch.float64)
    odeint(Tanh(), z0, method="rk2", n_steps=2, gradient="symplectic").sum().backward()
    with pytest.raises(ValueError, match="symplectic:m=1 needs the package checkpoint-schedules"):
        odeint(Tanh(), z0, method="rk2", n_steps=2, gradient="symplectic:m=1")


@pytest.mark.parametrize("network", FOUR_NETWORKS)
def test_networks_need_less_memory_than_with_anode_steps_where_a_step_has_several_stages(network):
    runner = SUITES["memory"].runner(data.load(None, 10, generate=True), CPU)
    for method in ("rk2", "rk4", "rk4_38"):
        symplectic, steps = (
            runner.measure(Experiment(network, gradient, method, 2, batch_size=8))[0]
            for gradient in ("symplectic", "anode-steps")
        )
        assert symplectic.peak_bytes < steps.peak_bytes
