"""node, its ablations, and backpropagation through torchdiffeq: the library, unmodified."""

import contextlib
import math
from functools import partial
from itertools import product

import pytest
import torch
import torchdiffeq

from solvers import METHODS, odeint
from tests.solvers.right_hand_sides import Counting, Holding, Linear, Tanh, Tricky
from tests.solvers.test_exactness import assert_same_bits, observe

SHARED = [name for name, tableau in METHODS.items() if tableau.torchdiffeq]
FIXED_STEPS = ["backprop-torchdiffeq", "node", "node-grid", "node-frozen", "node-grid-frozen"]


def library(solve, rhs, z0, method, n_steps):
    """torchdiffeq alone, on the grid 0, 1/n, ..., 1."""
    times, grid = (torch.linspace(0, 1, n + 1, dtype=z0.dtype) for n in (1, n_steps))
    options = {"grid_constructor": lambda f, z, t: grid if t[0] < t[-1] else grid.flip(0)}
    return solve(rhs, z0, times, method=METHODS[method].torchdiffeq, options=options)[-1]


def bfloat16_layers():
    return Holding(Tricky(dropout=False).layers.bfloat16(), lambda held, z: held(z.bfloat16()))


PROBLEMS = {
    "float32": (partial(Linear, dtype=torch.float32), (5, 3), torch.float32),
    "float64": (Linear, (5, 3), torch.float64),
    "layers": (partial(Tricky, dropout=False), (4, 4, 6, 6), torch.float32),
    "autocast": (partial(Tricky, dropout=False), (4, 4, 6, 6), torch.float32),
    "bfloat16": (bfloat16_layers, (4, 4, 6, 6), torch.float32),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("method", SHARED)
def test_forward_pass_equals_torchdiffeq_bit_for_bit(method, problem):
    make, shape, dtype = PROBLEMS[problem]
    for n_steps in (1, 2, 3, 5, 7, 10, 61, 109, 115) if len(shape) == 2 else (2, 3, 5, 7):
        torch.manual_seed(n_steps)
        rhs, z0 = make(), torch.randn(shape, dtype=dtype)
        if len(shape) == 4:
            z0 = z0.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=problem == "autocast"):
            expected = library(torchdiffeq.odeint, rhs, z0, method, n_steps)
            for gradient in ("backprop", "node", "node-grid"):
                found = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
                assert torch.equal(found, expected)
                assert found.stride() == z0.stride()


def test_gradient_is_the_librarys_own():
    torch.manual_seed(0)
    rhs, z0 = Tricky(dropout=False), torch.randn(3, 4, 5, 5)
    parameters = [p for p in rhs.parameters() if p.requires_grad]
    theirs = library(torchdiffeq.odeint_adjoint, rhs, z0, "rk2", 2)
    ours = odeint(rhs, z0, method="rk2", n_steps=2, gradient="node")
    found, expected = (torch.autograd.grad(z1.sin().sum(), parameters) for z1 in (ours, theirs))
    assert all(map(torch.equal, found, expected))


def test_one_euler_step_evaluates_the_jacobian_at_the_wrong_end():
    # The paper's argument: alpha0 = alpha1 (I + df/dz(z0)) when discretised first, and
    # alpha1 (I + df/dz(z1)) when optimised first.
    torch.manual_seed(0)
    rhs = Tanh(dimension=4)
    z0 = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    alpha1 = torch.randn(1, 4, dtype=torch.float64)
    for gradient in ("backprop", "node"):
        z1 = odeint(rhs, z0, method="euler", n_steps=1, gradient=gradient)
        z = (z0 if gradient == "backprop" else z1).detach()
        jacobian = torch.autograd.functional.jacobian(lambda z: rhs(0, z), z)[0, :, 0, :]
        expected = alpha1 @ (torch.eye(4, dtype=torch.float64) + jacobian)
        torch.testing.assert_close(torch.autograd.grad(z1, z0, alpha1)[0], expected)


@pytest.mark.parametrize("method", SHARED)
def test_backprop_through_torchdiffeq_is_exact(method):
    torch.manual_seed(0)
    rhs, z0 = Tricky(), torch.randn(3, 4, 5, 5)
    ours, theirs = (
        observe(rhs, z0, method=method, n_steps=3, gradient=gradient)
        for gradient in ("backprop", "backprop-torchdiffeq")
    )
    for name in ours:
        if ours[name] is not None and theirs[name] is not None:
            torch.testing.assert_close(theirs[name], ours[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("polluting", ["node", "node-grid"])
def test_frozen_is_the_method_with_its_statistics_left_alone(polluting):
    torch.manual_seed(0)
    rhs, z0 = Tricky(dropout=False), torch.randn(3, 4, 5, 5)
    node, frozen, backprop = (
        observe(rhs, z0, gradient=gradient, method="rk2", n_steps=2)
        for gradient in (polluting, f"{polluting}-frozen", "backprop")
    )
    buffers = [name for name in node if name.startswith("buffer")]
    gradients = [name for name in node if name not in buffers]
    assert_same_bits({k: frozen[k] for k in gradients}, {k: node[k] for k in gradients})
    assert_same_bits({k: frozen[k] for k in buffers}, {k: backprop[k] for k in buffers})
    count, mean = "buffer layers.1.num_batches_tracked", "buffer layers.1.running_mean"
    assert (int(node[count]), int(frozen[count])) == (8, 4)
    assert not torch.equal(node[mean], frozen[mean])


def states_of(gradient, method, n_steps):
    """The states that f is evaluated at, in the forward pass with z1, and in the backward pass."""
    torch.manual_seed(0)
    rhs = Counting(Tanh())
    z0 = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
    forward = [*rhs.states, z1.detach()]
    rhs.states.clear()
    z1.sum().backward()
    return forward, rhs.states


@pytest.mark.parametrize(
    ("gradient", "drifts"),
    [("node-grid", False), ("node-grid-frozen", False), ("node", True), ("node-frozen", True)],
)
def test_grid_restores_the_states_between_euler_steps(gradient, drifts):
    forward, backward = states_of(gradient, "euler", 4)
    same = [torch.equal(a, b) for a, b in zip(backward, reversed(forward), strict=False)]
    assert same == ([True, False, False, False] if drifts else [True] * 4)


def test_grid_solves_for_the_states_inside_a_step_backwards():
    (_, first, start, second, z1), backward = states_of("node-grid", "rk2", 2)
    assert torch.equal(backward[0], z1)
    assert torch.equal(backward[2], start)
    assert not torch.equal(backward[1], second)
    assert not torch.equal(backward[3], first)


@pytest.mark.parametrize(
    ("method", "gradient"),
    [
        *product(SHARED, ("node", "node-grid")),
        *(("euler", "node-stages"), ("rk2", "node-stages")),
    ],
)
def test_error_falls_at_the_order_of_the_method_where_all_is_smooth(method, gradient):
    torch.manual_seed(0)
    rhs, z0, errors = Tanh(), torch.randn(4, 3, dtype=torch.float64), []
    for n_steps in (32, 64):
        found, reference = (
            torch.autograd.grad(
                odeint(rhs, z0, method=method, n_steps=n_steps, gradient=g).square().sum(),
                rhs.matrix,
            )[0]
            for g in (gradient, "backprop")
        )
        errors.append(float((found - reference).norm()))
    assert errors[1] > 0
    assert math.log2(errors[0] / errors[1]) > METHODS[method].order - 0.2


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
