"""The Runge–Kutta methods, and what a right-hand side and a state must be."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from solvers import GRADIENTS, METHODS, Tableau, integrate, odeint
from solvers.binomial import recomputed_steps
from solvers.gradients import reference
from solvers.methods import Combination
from tests.solvers.right_hand_sides import Counting, Tanh

FIXED_STEPS = [name for name in GRADIENTS if "rk45" not in name]


@pytest.mark.parametrize(
    ("times", "stage", "update", "library", "said"),
    [
        ((0.0, 0.5), (1.0,), (0.0, 1.0), None, r"must sum to \[0.0, 0.5, 1.0\], and sum to"),
        ((0.0, 1.0), (1.0,), (0.5, 0.4), None, "is not consistent: the weights"),
        ((0.5, 1.0), (1.0,), (0.5, 0.5), None, "is not consistent: the weights"),
        ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5), None, "needs a stage for each time but the first"),
        ((0.0,), (1.0,), (1.0,), None, "needs a stage for each time but the first"),
        ((0.0, 1.0), (1.0,), (float("nan"), 0.5), None, "is not consistent: the weights"),
        ([0.0, 1.0], (1.0,), (0.5, 0.5), None, "needs tuples for its times, stages and weights"),
        ((0.0, 1.0), [1.0], (0.5, 0.5), None, "needs tuples for its times, stages and weights"),
        ((0.0, 1.0), (1.0,), (0.5, 0.5), "heun", "is not torchdiffeq's 'heun'.* midpoint, heun2,"),
        ((0.0, 1.0), (1.0,), (0.5, 0.5), "midpoint", "is not torchdiffeq's 'midpoint'"),
    ],
)
def test_tableau_checks_itself(times, stage, update, library, said):
    with pytest.raises(ValueError, match=said):
        Tableau("mine", 2, times, (Combination(stage),), Combination(update), library)


@pytest.mark.parametrize("gradient", ["backprop", "reversible"])
@pytest.mark.parametrize("method", METHODS)
def test_error_falls_at_the_order_of_the_method(method, gradient):
    # dz/dt = z·cos(4t) has z(1) = exp(sin(4)/4).
    exact, errors = math.exp(math.sin(4) / 4), []
    for n_steps in (1000, 2000) if method == "euler" else (100, 200):
        z0 = torch.ones((), dtype=torch.float64)
        z1 = GRADIENTS[gradient].solve(lambda t, z: z * torch.cos(4 * t), z0, method, n_steps)
        errors.append(abs(float(z1) - exact))
    assert math.log2(errors[0] / errors[1]) > METHODS[method].order - 0.3


EVALUATIONS = {
    "backprop": (4, 0),
    "anode": (4, 4),
    "anode-steps": (4, 4),
    "anode-revolve:m=2": (4, recomputed_steps(4, 2)),
    "reversible": (8, 8),
    "symplectic": (4, 8),
    "symplectic:m=2": (4, recomputed_steps(4, 2) + 4),
    "mixed": (4, 4),
    "mixed:dtype=float16": (4, 4),
    "node": (4, 4),
    "node-grid": (4, 4),
    "backprop-torchdiffeq": (4, 0),
}
"""Evaluations a stage of four steps in the forward and the backward pass."""

COUNTED_ELSEWHERE = {"anode-auto", "node-frozen", "node-grid-frozen", "node-stages"}
"""Methods whose evaluations depend on a plan or the scheme, or are those of another method."""


def test_evaluations_of_every_method_with_fixed_steps_are_promised():
    fixed = {name for name, m in GRADIENTS.items() if not getattr(m, "is_adaptive", False)}
    assert fixed - COUNTED_ELSEWHERE <= {name.partition(":")[0] for name in EVALUATIONS}


BY_TORCHDIFFEQ = ("node", "node-grid", "backprop-torchdiffeq")


@pytest.mark.parametrize("gradient", EVALUATIONS)
@pytest.mark.parametrize("method", METHODS)
def test_passes_evaluate_each_stage_as_often_as_promised(method, gradient):
    if METHODS[method].torchdiffeq is None and gradient in BY_TORCHDIFFEQ:
        method = "rk4_38"
    rhs, stages = Counting(Tanh()), METHODS[method].n_stages
    z0 = torch.ones(1, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method=method, n_steps=4, gradient=gradient)
    forward = len(rhs.times)
    assert (rhs.times[0], max(rhs.times) <= 1) == (0, True)
    z1.sum().backward()
    assert (forward, len(rhs.times) - forward) == tuple(stages * n for n in EVALUATIONS[gradient])
    assert all(0 <= t <= 1 for t in rhs.times)


def test_time_grid_serves_training_after_it_was_first_needed_in_inference_mode():
    rhs = nn.Linear(2, 2)

    def f(t, z):
        return rhs(z) * t

    with torch.inference_mode():
        integrate(f, torch.ones(1, 2), METHODS["rk2"], 17)
    integrate(f, torch.ones(1, 2), METHODS["rk2"], 17).sum().backward()
    assert rhs.weight.grad is not None


def spoils_and_raises(t, z):
    t.add_(1)
    raise KeyError


@pytest.mark.parametrize("gradient", ["backprop", "anode", "reversible"])
@pytest.mark.parametrize(
    ("rhs", "error"),
    [
        (lambda t, z: t.mul_(2) * z, ValueError),
        (lambda t, z: t.unsqueeze_(0).mul_(2) * z, ValueError),
        (lambda t, z: t.requires_grad_() * z, None),
        (lambda t, z: t.detach().mul_(2) * z, ValueError),
        (spoils_and_raises, KeyError),
    ],
)
def test_right_hand_side_that_changes_its_time_disturbs_no_other_solve(gradient, rhs, error):
    def solve(rhs):
        z0 = torch.ones(2, 3, dtype=torch.float64)
        return odeint(rhs, z0, method="rk2", n_steps=3, gradient=gradient)

    expected = solve(lambda t, z: t * z)
    said = "must not change t in place" if error is ValueError else None
    with pytest.raises(error, match=said) if error else nullcontext():
        solve(rhs)
    result = solve(lambda t, z: t * z)
    assert torch.equal(result, expected)
    assert not result.requires_grad


@pytest.mark.parametrize("gradient", [*GRADIENTS, "mixed:dtype=float16"])
@pytest.mark.parametrize(
    ("rhs", "said"),
    [
        (lambda t, z: z[:, :1], r"keep the state's shape.*\(2, 3\).*\(2, 1\)"),
        (lambda t, z: z[:1], r"keep the state's shape.*\(2, 3\).*\(1, 3\)"),
        (lambda t, z: (z,), "return a tensor of the state's shape, not tuple"),
        (lambda t, z: None, "return a tensor of the state's shape, not NoneType"),
    ],
)
def test_slope_that_is_no_tensor_of_the_states_shape_is_an_error(gradient, rhs, said):
    with pytest.raises(ValueError, match=said):
        odeint(rhs, torch.ones(2, 3), method="rk2", n_steps=1, gradient=gradient)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(
            ({"n_steps": n}, "n_steps must be a whole number of at least 1")
            for n in (0, -1, 1.0, True, "2")
        ),
        *(
            ({"z0": z0}, f"must be a floating-point tensor, not {kind}")
            for z0, kind in ((torch.ones(1).long(), "torch.int64"), ((torch.ones(1),), "tuple"))
        ),
    ],
)
def test_wrong_argument_is_an_error_that_says_so(changes, said):
    case = {"rhs": lambda t, z: z, "z0": torch.ones(2, 3), "n_steps": 1, **changes}
    with pytest.raises(ValueError, match=said):
        odeint(case.pop("rhs"), case.pop("z0"), method="rk2", gradient="anode", **case)


class Cast(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3).double()

    def forward(self, t, z):
        return self.layer(z.double())


@pytest.mark.parametrize("gradient", FIXED_STEPS)
def test_state_keeps_its_precision_where_slopes_are_more_precise(gradient):
    torch.manual_seed(0)
    rhs, z0 = Cast(), torch.randn(2, 3, requires_grad=True)
    z1 = odeint(rhs, z0, method="rk2", n_steps=3, gradient=gradient)
    assert z1.dtype == torch.float32
    if gradient != "reversible":
        same = reference(gradient)
        assert torch.equal(z1, odeint(rhs, z0, method="rk2", n_steps=3, gradient=same))
    z1.sum().backward()
    assert z0.grad.dtype == torch.float32


@pytest.mark.parametrize("gradient", [*GRADIENTS, "mixed:dtype=float16"])
def test_empty_batch_has_gradients_of_zero(gradient):
    rhs = Tanh()
    for _ in range(2):  # anode-auto plans the second
        z0 = torch.empty(0, 3, dtype=torch.float64, requires_grad=True)
        z1 = odeint(rhs, z0, method="rk2", n_steps=2, gradient=gradient)
        z1.sum().backward()
        assert z1.shape == z0.grad.shape == (0, 3)
        assert not rhs.matrix.grad.any()


@pytest.mark.parametrize("gradient", ["anode", "anode-auto", "anode-steps", "symplectic"])
def test_a_call_that_is_refused_leaves_no_trace(gradient):
    rhs, z0 = Tanh(), torch.ones(2, 3, dtype=torch.float64)
    case = {"method": "rk2", "n_steps": 2, "gradient": gradient}
    with pytest.raises(RuntimeError, match="setup_context|vmap"):
        torch.vmap(lambda z: odeint(rhs, z, **case))(z0)
    odeint(rhs, z0, **case).sum().backward()
    assert rhs.matrix.grad.any()
