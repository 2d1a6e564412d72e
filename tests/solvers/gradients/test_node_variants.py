"""node, its ablations, and backpropagation through torchdiffeq: what they share."""

import contextlib
import math

import pytest
import torch

from solvers import METHODS, odeint
from tests.solvers.right_hand_sides import Counting, Tanh, Tricky
from tests.solvers.test_exactness import assert_same_bits, observe

SHARED = [name for name, tableau in METHODS.items() if tableau.torchdiffeq]
FIXED_STEPS = ["backprop-torchdiffeq", "node", "node-grid", "node-frozen", "node-grid-frozen"]


@pytest.mark.parametrize("n_steps", [1, 3, 61])
@pytest.mark.parametrize("method", SHARED)
@pytest.mark.parametrize("gradient", FIXED_STEPS)
def test_forward_pass_has_our_bits_and_n_steps(gradient, method, n_steps):
    torch.manual_seed(0)
    rhs = Counting(Tanh())
    z0 = torch.randn(4, 3, dtype=torch.float64)
    ours = odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")
    rhs.times.clear()
    theirs = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
    assert torch.equal(theirs, ours)
    assert len(rhs.times) == n_steps * METHODS[method].n_stages
    rhs.times.clear()
    theirs.sum().backward()
    backward = 0 if gradient == "backprop-torchdiffeq" else n_steps * METHODS[method].n_stages
    assert len(rhs.times) == backward
    assert not backward or rhs.times[0] == 1
    assert all(0 <= t <= 1 for t in rhs.times)


@pytest.mark.parametrize("method", SHARED)
def test_backprop_through_torchdiffeq_is_exact(method):
    torch.manual_seed(0)
    rhs, z0 = Tricky(), torch.randn(3, 4, 5, 5, dtype=torch.float32)
    ours = observe(rhs, z0, method=method, n_steps=3, gradient="backprop")
    theirs = observe(rhs, z0, method=method, n_steps=3, gradient="backprop-torchdiffeq")
    for name in ours:
        if ours[name] is not None and theirs[name] is not None:
            torch.testing.assert_close(theirs[name], ours[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("polluting", ["node", "node-grid"])
def test_frozen_is_the_method_with_its_statistics_left_alone(polluting):
    torch.manual_seed(0)
    rhs, z0 = Tricky(dropout=False), torch.randn(3, 4, 5, 5)
    case = {"method": "rk2", "n_steps": 2}
    node = observe(rhs, z0, gradient=polluting, **case)
    frozen = observe(rhs, z0, gradient=f"{polluting}-frozen", **case)
    backprop = observe(rhs, z0, gradient="backprop", **case)
    buffers = [name for name in node if name.startswith("buffer")]
    gradients = [name for name in node if name not in buffers]
    assert_same_bits({k: frozen[k] for k in gradients}, {k: node[k] for k in gradients})
    assert_same_bits({k: frozen[k] for k in buffers}, {k: backprop[k] for k in buffers})
    assert not torch.equal(
        node["buffer layers.1.running_mean"], frozen["buffer layers.1.running_mean"]
    )


def gradient_of(rhs, z0, gradient, method, n_steps):
    z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
    return torch.autograd.grad(z1.square().sum(), rhs.matrix)[0]


@pytest.mark.parametrize(
    ("gradient", "drifts"),
    [("node-grid", False), ("node-grid-frozen", False), ("node", True), ("node-frozen", True)],
)
def test_grid_restores_the_states_between_euler_steps(gradient, drifts):
    torch.manual_seed(0)
    rhs = Counting(Tanh())
    z0 = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    z1 = odeint(rhs, z0, method="euler", n_steps=4, gradient=gradient)
    forward = [*rhs.states, z1.detach()]
    rhs.states.clear()
    z1.sum().backward()
    same = [torch.equal(a, b) for a, b in zip(rhs.states, reversed(forward), strict=False)]
    assert same == ([True, False, False, False] if drifts else [True] * 4)


def test_grid_solves_for_the_states_inside_a_step_backwards():
    torch.manual_seed(0)
    rhs = Counting(Tanh())
    z0 = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    z1 = odeint(rhs, z0, method="rk2", n_steps=2, gradient="node-grid")
    starts, midpoints = rhs.states[::2], rhs.states[1::2]
    rhs.states.clear()
    z1.sum().backward()
    backward_starts, backward_midpoints = rhs.states[::2], rhs.states[1::2]
    assert torch.equal(backward_starts[0], z1)
    assert torch.equal(backward_starts[1], starts[1])
    for there, back in zip(midpoints, reversed(backward_midpoints), strict=True):
        assert not torch.equal(there, back)


@pytest.mark.parametrize("gradient", ["node", "node-grid"])
@pytest.mark.parametrize("method", SHARED)
def test_error_falls_at_the_order_of_the_method_where_all_is_smooth(method, gradient):
    torch.manual_seed(0)
    rhs, z0 = Tanh(), torch.randn(4, 3, dtype=torch.float64)
    errors = [
        float(
            (
                gradient_of(rhs, z0, gradient, method, n)
                - gradient_of(rhs, z0, "backprop", method, n)
            ).norm()
        )
        for n in (32, 64)
    ]
    assert errors[1] > 0
    assert math.log2(errors[0] / errors[1]) > METHODS[method].order - 0.2


def test_adaptive_adjoint_comes_as_close_as_its_tolerance():
    torch.manual_seed(0)
    rhs, z0 = Counting(Tanh()), torch.randn(4, 3, dtype=torch.float64)
    reference = odeint(rhs, z0, method="rk4", n_steps=200, gradient="backprop")
    evaluations, errors = [], []
    for tolerance in (1e-3, 1e-6, 1e-9):
        rhs.times.clear()
        gradient = f"node-rk45:rtol={tolerance}:atol={tolerance}"
        z1 = odeint(rhs, z0, method="rk2", n_steps=1, gradient=gradient)
        evaluations.append(len(rhs.times))
        errors.append(float((z1 - reference).detach().norm()))
    assert evaluations == sorted(evaluations)
    assert evaluations[2] > 2 * evaluations[0]
    assert errors[2] < 1e-7 < errors[0]


@pytest.mark.parametrize("gradient", FIXED_STEPS)
def test_a_scheme_that_torchdiffeq_does_not_have_is_refused(gradient):
    with pytest.raises(ValueError, match=f"{gradient} cannot use the method 'rk4'.*'rk4_38'"):
        odeint(Tanh(), torch.ones(1, 3), method="rk4", n_steps=1, gradient=gradient)


@pytest.mark.parametrize("gradient", FIXED_STEPS)
def test_right_hand_side_that_changes_its_time_disturbs_no_other(gradient):
    def greedy(t, z):
        t.add_(1)
        return z

    z0, innocent = torch.ones(1, 3, dtype=torch.float64), Tanh()
    case = {"method": "rk2", "n_steps": 7, "gradient": gradient}
    before = odeint(innocent, z0, **case)
    with contextlib.suppress(AssertionError):  # torchdiffeq may find its times out of order
        odeint(greedy, z0, **case)
    assert torch.equal(odeint(innocent, z0, **case), before)
