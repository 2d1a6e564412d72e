"""node-stages: the continuous adjoint at the stage states of the forward pass."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import METHODS, InexactError, Tableau, odeint
from solvers.methods import Combination
from tests.solvers import test_proof
from tests.solvers.right_hand_sides import Counting, Tanh
from tests.solvers.test_exactness import (
    RANDOM_CASE,
    assert_same_gradient,
    observe,
    random_problem,
)

RALSTON = Tableau(
    "ralston",
    2,
    (0.0, 2 / 3),
    (Combination((1.0,), 2 / 3),),
    Combination((1.0, 3.0), 1 / 4),
    None,
)
KUTTA3 = Tableau(
    "kutta3",
    3,
    (0.0, 1 / 2, 1.0),
    (Combination((1.0,), 1 / 2), Combination((-1.0, 2.0))),
    Combination((1.0, 4.0, 1.0), 1 / 6),
    None,
)
OWN_ADJOINT = [METHODS["rk4"], METHODS["rk4_38"], KUTTA3]
"""Schemes that are their own discrete adjoint: at the stage states no error is left."""


@given(**{**RANDOM_CASE, "method": st.sampled_from([METHODS["rk2"], *OWN_ADJOINT])})
@settings(max_examples=40)
def test_scheme_that_is_its_own_discrete_adjoint_has_backprops_gradient(
    seed, method, n_steps, backwards, dtype, autocast, m, **problem
):
    """And the forward pass and the statistics that any scheme leaves have backprop's bits."""
    rhs, z0 = random_problem(seed, torch.float64, **problem)
    case = {"method": method, "n_steps": n_steps, "backwards": backwards, "seed": seed % 1000}
    ours = observe(rhs, z0, gradient="node-stages", **case)
    tolerance = 1e-14 if method in OWN_ADJOINT else math.inf
    assert_same_gradient(ours, observe(rhs, z0, gradient="backprop", **case), tolerance)


def test_one_rk2_step_evaluates_the_jacobian_at_its_end_and_at_the_forward_midpoint():
    torch.manual_seed(0)
    rhs = Counting(Tanh(dimension=4))
    z0 = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    adjoint = torch.randn(1, 4, dtype=torch.float64)
    z1 = odeint(rhs, z0, method="rk2", n_steps=1, gradient="node-stages")

    def jacobian(z):
        return torch.autograd.functional.jacobian(lambda z: rhs.inner(0, z), z)[0, :, 0, :]

    at_midpoint = adjoint + adjoint @ jacobian(z1.detach()) / 2
    expected = adjoint + at_midpoint @ jacobian(rhs.states[1])
    torch.testing.assert_close(torch.autograd.grad(z1, z0, adjoint)[0], expected)


def test_with_euler_it_is_node_grid():
    torch.manual_seed(0)
    rhs, z0 = Tanh(), torch.randn(4, 3, dtype=torch.float64)
    case = {"method": "euler", "n_steps": 5}
    found, grid = (observe(rhs, z0, gradient=g, **case) for g in ("node-stages", "node-grid"))
    assert_same_gradient(found, grid, 1e-13)


@pytest.mark.parametrize(("method", "more"), [("euler", 1), ("rk2", 1), ("rk4", 0), ("rk4_38", 0)])
def test_backward_pass_evaluates_each_stage_twice_and_an_end_that_is_none_once(method, more):
    rhs, z0 = Counting(Tanh()), torch.ones(2, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method=method, n_steps=4, gradient="node-stages")
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == 4 * (2 * METHODS[method].n_stages + more)
    assert max(rhs.times) == 1


@given(**test_proof.CHANGES, n_steps=st.integers(2, 4), method=st.sampled_from(["rk4", "rk4_38"]))
@settings(max_examples=30)
def test_change_between_the_passes_is_an_error_or_changes_no_gradient(**case):
    test_proof.assert_backprops_gradient_or_an_error("node-stages", "backprop", case)


@pytest.mark.parametrize("method", ["euler", "rk2"])
@pytest.mark.parametrize("change", ["an attribute", "a like layer, frozen", "data"])
def test_change_between_the_passes_is_an_error_with_schemes_that_use_the_end_state(change, method):
    case = {"sources": set(), "forward": "plain", "n_steps": 2, "method": method}
    with pytest.raises(InexactError):
        test_proof.gradients("node-stages", between=[change], **case)


def test_scheme_whose_times_are_not_symmetric_is_refused_with_one_that_fits():
    with pytest.raises(ValueError, match=r"node-stages cannot use the method 'ralston'.*'rk2'"):
        odeint(Tanh(), torch.ones(1, 3), method=RALSTON, n_steps=1, gradient="node-stages")
