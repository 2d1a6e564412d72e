"""mixed: sums in float32, evaluations in low precision, a scaled adjoint in float16. Evaluations,
recomputation and hidden parameters are tested with those of the other methods."""

import pytest
import torch
from hypothesis import given, settings

from bench.data.generated import load
from bench.experiment import Experiment
from bench.suites import SUITES
from solvers import GRADIENTS, odeint
from solvers.gradients import reference
from tests.bench.builders import CPU
from tests.solvers.right_hand_sides import Counting, Tanh
from tests.solvers.test_exactness import (
    RANDOM_CASE,
    assert_same_bits,
    observe,
    random_problem,
)

BOTH = ["mixed", "mixed:dtype=float16"]
CASE = {"method": "rk4", "n_steps": 3}


@pytest.mark.parametrize("gradient", BOTH)
@given(**{name: RANDOM_CASE[name] for name in RANDOM_CASE.keys() - {"dtype", "autocast", "m"}})
@settings(max_examples=20)
def test_gradient_is_backprops_in_float64_which_autocast_leaves_alone(
    gradient, seed, method, n_steps, backwards, **problem
):
    rhs, z0 = random_problem(seed, torch.float64, **problem)
    case = {"method": method, "n_steps": n_steps, "backwards": backwards, "seed": seed % 1000}
    expected = observe(rhs, z0, gradient="backprop", **case)
    assert_same_bits(observe(rhs, z0, gradient=gradient, **case), expected, 1e-14)


@given(**{name: RANDOM_CASE[name] for name in RANDOM_CASE.keys() - {"dtype", "m"}})
@settings(max_examples=20)
def test_gradient_in_bfloat16_is_that_of_stored_evaluations_and_parameters_sum_in_float32(
    seed, method, n_steps, backwards, autocast, **problem
):
    rhs, z0 = random_problem(seed, torch.float32, **problem)
    case = {"method": method, "n_steps": n_steps, "backwards": backwards, "seed": seed % 1000}
    case["autocast"] = autocast
    expected = observe(rhs, z0, gradient=reference("mixed"), **case)
    assert_same_bits(observe(rhs, z0, gradient="mixed", **case), expected, 1e-5)


def gradients(rhs, z0, gradient, factor=1.0):
    """Gradients of factor times a loss, divided by factor, in one vector."""
    rhs.zero_grad()
    z0 = z0.detach().requires_grad_()
    loss = odeint(rhs, z0, gradient=gradient, **CASE).sin().square().sum()
    (factor * loss).backward()
    found = [z0.grad, *(p.grad for p in rhs.parameters())]
    return torch.cat([part.flatten() for part in found if part is not None]) / factor


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("factor", [1e-10, 1e10, 1e30])
def test_scale_keeps_the_adjoint_in_the_range_of_float16(factor):
    torch.manual_seed(0)
    rhs, z0 = Tanh(dtype=torch.float32), torch.randn(20, 3)
    expected = gradients(rhs, z0, "backprop")
    assert distance(gradients(rhs, z0, "mixed:dtype=float16", factor), expected) < 5e-3
    unscaled = gradients(rhs, z0, reference("mixed:dtype=float16"), factor)
    assert not distance(unscaled, expected) < 0.5


class Amplified(Tanh):
    """Slopes of order 1, with a large factor in their derivative."""

    def forward(self, t, z):
        return 1e4 * ((1e-4 * z) @ self.matrix.T)


def test_scale_is_halved_where_the_products_of_a_step_overflow():
    torch.manual_seed(0)
    rhs, z0 = Counting(Amplified(dtype=torch.float32)), torch.randn(20, 3)
    expected = gradients(rhs.inner, z0, "backprop")
    found = gradients(rhs, z0, "mixed:dtype=float16")
    assert len(rhs.states) > 2 * 4 * CASE["n_steps"]
    assert distance(found, expected) < 1e-2


def test_scale_of_the_smallest_adjoints_is_finite():
    rhs, z0 = Tanh(dtype=torch.float32), torch.ones(2, 3)
    assert gradients(rhs, z0, "mixed:dtype=float16", 1e-43).isfinite().all()


@pytest.mark.parametrize("gradient", BOTH)
def test_gradient_that_is_not_finite_stays_so(gradient):
    rhs, z0 = Tanh(dtype=torch.float32), torch.randn(2, 3)
    assert not gradients(rhs, z0, gradient, float("inf")).isfinite().any()


def test_state_in_low_precision_is_solved_in_float32():
    torch.manual_seed(0)
    rhs, z0 = Tanh(dtype=torch.float32), torch.randn(20, 3).bfloat16()
    found = odeint(rhs, z0, gradient="mixed", **CASE)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, odeint(rhs, z0.float(), gradient="mixed", **CASE).bfloat16())


@pytest.mark.parametrize("gradient", BOTH)
def test_device_without_autocast_is_an_error_that_says_so(gradient):
    z0 = torch.ones(2, 3, device="meta")
    with pytest.raises(ValueError, match="the device meta has no autocast to torch.*: choose"):
        odeint(lambda t, z: z, z0, gradient=gradient, **CASE)


def test_only_the_scale_of_float16_is_read_by_the_host():
    capturable = [GRADIENTS.resolve(gradient).is_capturable for gradient in BOTH]
    assert capturable == [True, False]


def test_network_needs_less_memory_than_with_anode_steps():
    runner = SUITES["memory"].runner(load(10), CPU)
    mixed, steps = (
        runner.measure(Experiment("resnet10", gradient, "rk2", 2, batch_size=8))[0].peak_bytes
        for gradient in ("mixed", "anode-steps")
    )
    assert mixed < steps
