"""reversible: its own discretisation, undone by algebra."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from solvers import GRADIENTS, METHODS, odeint
from tests.solvers.right_hand_sides import Counting, Tanh, Tricky

REVERSIBLE = GRADIENTS["reversible"]


def observe(solve, rhs, z0, method, n_steps):
    rhs.zero_grad()
    torch.manual_seed(0)
    z0 = z0.detach().requires_grad_()
    z1 = solve(rhs, z0, method, n_steps)
    z1.sin().square().sum().backward()
    gradients = [p.grad.flatten() for p in rhs.parameters() if p.grad is not None]
    return z1.detach(), z0.grad, torch.cat(gradients)


@given(
    seed=st.integers(0, 2**32),
    method=st.sampled_from(list(METHODS)),
    n_steps=st.integers(1, 10),
    norm=st.booleans(),
    dropout=st.booleans(),
    time=st.booleans(),
    activation=st.sampled_from([nn.Tanh, nn.Softplus]),
)
def test_gradient_is_exact_for_its_own_forward_pass(seed, method, n_steps, **layers):
    # In float64; what is undone is rounded, by about 1e-16 a step.
    torch.manual_seed(seed)
    rhs = Tricky(**layers).double()
    z0 = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    found = observe(REVERSIBLE.solve, rhs, z0, method, n_steps)
    reference = observe(REVERSIBLE.solve_storing, rhs, z0, method, n_steps)
    assert torch.equal(found[0], reference[0])
    for one, other in zip(found[1:], reference[1:], strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_error_falls_at_the_order_of_the_method(method):
    exact = math.exp(math.sin(4) / 4)
    errors = []
    for n_steps in (1000, 2000) if method == "euler" else (100, 200):
        z0 = torch.ones((), dtype=torch.float64)
        z1 = REVERSIBLE.solve(lambda t, z: z * torch.cos(4 * t), z0, method, n_steps)
        errors.append(abs(float(z1) - exact))
    assert math.log2(errors[0] / errors[1]) > METHODS[method].order - 0.3


def test_each_pass_evaluates_two_increments_a_step():
    rhs = Counting(Tanh())
    z1 = odeint(
        rhs, torch.ones(2, 3, dtype=torch.float64), method="rk2", n_steps=5, gradient="reversible"
    )
    assert len(rhs.times) == 2 * 5 * 2
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == 2 * 5 * 2


def test_batchnorm_statistics_see_the_forward_pass_alone():
    torch.manual_seed(0)
    rhs = Tricky()
    z1 = odeint(rhs, torch.randn(3, 4, 5, 5), method="rk2", n_steps=2, gradient="reversible")
    mean = rhs.layers[1].running_mean.clone()
    z1.sum().backward()
    assert torch.equal(rhs.layers[1].running_mean, mean)


@pytest.mark.parametrize("coupling", ["0", "1.5", "-0.5", "nan"])
def test_coupling_must_be_positive_and_at_most_one(coupling):
    with pytest.raises(ValueError, match="needs 0 < coupling ≤ 1"):
        odeint(
            Tanh(),
            torch.ones(1, 3),
            method="rk2",
            n_steps=3,
            gradient=f"reversible:coupling={coupling}",
        )
