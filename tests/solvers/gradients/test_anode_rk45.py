"""anode-rk45: torchdiffeq's adaptive solve, and the gradient of what it computed."""

import pytest
import torch
import torchdiffeq
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.instruments.memory import peak_bytes
from models.resnet import right_hand_side
from solvers import odeint
from solvers.gradients.adaptive import steps as adaptive
from tests.solvers import test_proof
from tests.solvers.right_hand_sides import Counting, Tanh
from tests.solvers.test_exactness import (
    RANDOM_CASE,
    assert_same_gradient,
    observe,
    random_problem,
)

CASE = {"method": "rk2", "n_steps": 1}


def named(family, tolerance):
    return f"{family}:rtol={tolerance}:atol={tolerance}"


class Steep(Tanh):
    """f whose Lipschitz constant jumps to 60 at t = 1/2, so that steps are rejected."""

    def forward(self, t, z):
        return super().forward(t, z) - torch.where(t > 0.5, 60.0, 0.0) * (z - 1)


class Recording(Counting):
    """A right-hand side that counts the steps that torchdiffeq accepts and rejects."""

    accepted = rejected = 0

    def callback_accept_step(self, t, z, dt):
        self.accepted += 1

    def callback_reject_step(self, t, z, dt):
        self.rejected += 1


@given(exponent=st.floats(1, 7), scale=st.floats(0.1, 5), **RANDOM_CASE)
@settings(max_examples=30)
def test_gradient_is_backprops_through_the_accepted_steps(
    exponent, scale, seed, dtype, autocast, backwards, layers, method, n_steps, m, **problem
):
    layers = {
        **layers,
        "dropout": layers["dropout"] and exponent < 3,
    }  # its noise forbids long steps
    rhs, z0 = random_problem(seed, dtype, layers=layers, **problem)
    autocast = autocast if dtype == torch.float32 else None
    if dtype == torch.float32:
        exponent = min(exponent, 2 if autocast else 4)
    case = {**CASE, "backwards": backwards, "autocast": autocast, "seed": seed % 1000}
    try:
        ours = observe(rhs, scale * z0, gradient=named("anode-rk45", 10**-exponent), **case)
    except ValueError as error:
        assert "step underflows" in str(error) or "takes more than" in str(error)  # noqa: PT017
        assert layers["dropout"] or autocast
        return
    stored = observe(rhs, scale * z0, gradient=named("backprop-rk45", 10**-exponent), **case)
    assert_same_gradient(
        ours, stored, 2e-2 if autocast else 1e-14 if dtype == torch.float64 else 1e-5
    )


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("family", ["anode-rk45", "backprop-rk45", "node-rk45"])
def test_forward_pass_is_torchdiffeqs_bit_for_bit(family, tolerance):
    torch.manual_seed(0)
    rhs, z0 = Steep(), torch.randn(4, 3, dtype=torch.float64)
    times = torch.tensor([0, 1], dtype=torch.float64)
    how = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
    expected = torchdiffeq.odeint(rhs, z0, times, **how)[-1]
    assert torch.equal(odeint(rhs, z0, gradient=named(family, tolerance), **CASE), expected)


def test_steps_are_constants_of_the_gradient():
    """torchdiffeq would differentiate the choice of the first one."""
    rhs, z0, steps = Tanh(), torch.ones(2, 3, dtype=torch.float64), []
    rhs.callback_accept_step = lambda t, z, dt: steps.append(dt)
    torchdiffeq.odeint(rhs, z0, torch.tensor([0, 1], dtype=torch.float64), method="dopri5")
    assert steps.pop(0).requires_grad
    steps.clear()
    odeint(rhs, z0, gradient="backprop-rk45", **CASE)
    assert steps
    assert not any(dt.requires_grad for dt in steps)


def test_backward_pass_evaluates_the_accepted_steps_alone():
    torch.manual_seed(0)
    rhs = Recording(Steep())
    z1 = odeint(rhs, torch.randn(4, 3, dtype=torch.float64), gradient="anode-rk45", **CASE)
    assert rhs.rejected
    assert len(rhs.times) == 2 + 6 * (rhs.accepted + rhs.rejected)
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == 1 + 6 * rhs.accepted


def test_memory_is_six_states_for_each_accepted_step():
    torch.manual_seed(0)
    rhs, z0 = Recording(right_hand_side(16)), torch.randn(8, 16, 32, 32)
    rhs.forward = rhs.inner.forward
    peaks, accepted = [], []
    for tolerance in (1e-3, 1e-5):
        gradient = named("anode-rk45", tolerance)

        def step(gradient=gradient):
            rhs.zero_grad()
            rhs.accepted = 0
            odeint(rhs, z0, gradient=gradient, **CASE).sum().backward()

        peaks.append(peak_bytes(step, z0.device) / z0.nbytes)
        accepted.append(rhs.accepted)
    assert accepted[1] > accepted[0] + 2
    assert (peaks[1] - peaks[0]) / (accepted[1] - accepted[0]) == pytest.approx(6, abs=0.1)


@given(**test_proof.CHANGES)
@settings(max_examples=30)
def test_gradient_is_exact_or_an_error_whatever_changes_between_the_passes(**case):
    # A loose tolerance, so that no random number ends a solve.
    test_proof.assert_backprops_gradient_or_an_error(
        named("anode-rk45", 1), named("backprop-rk45", 1), {**case, **CASE}
    )


@pytest.mark.parametrize("family", ["anode-rk45", "node-rk45"])
@pytest.mark.parametrize(
    ("rhs", "said"),
    [
        (lambda t, z: z**2, "the step underflows, in the forward solve at t = 0.5: choose larger"),
        (lambda t, z: z / (t - t), "in the forward solve at t = 0: choose larger tolerances"),
    ],
)
def test_solve_that_cannot_go_on_says_where_and_what_to_do(family, rhs, said):
    z0 = torch.full((2, 3), 2.0, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"{family}.*{said}"):
        odeint(rhs, z0, gradient=family, **CASE)


def test_backward_solve_that_cannot_go_on_says_where():
    """dz/dt = -z³ is solved easily forwards, and blows up backwards from a state slightly off."""
    z0 = torch.full((2, 3), 300.0, dtype=torch.float64, requires_grad=True)
    z1 = odeint(lambda t, z: -(z**3), z0, gradient="node-rk45:rtol=0.1:atol=0.1", **CASE)
    with pytest.raises(ValueError, match="in the backward solve at t = 0"):
        z1.sum().backward()


def test_solve_of_too_many_evaluations_is_ended(monkeypatch):
    z0 = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    tight = named("node-rk45", 1e-11)
    z1 = odeint(Tanh(), z0, gradient=tight, **CASE)
    monkeypatch.setattr(adaptive, "MOST_EVALUATIONS", 30)
    with pytest.raises(ValueError, match="more than 30 evaluations .* in the backward solve.*ch"):
        z1.sum().backward()
    with pytest.raises(ValueError, match="more than 30 evaluations .* in the forward solve.*choo"):
        odeint(Tanh(), z0, gradient=tight, **CASE)
