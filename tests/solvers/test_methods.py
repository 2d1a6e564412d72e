import math
from contextlib import nullcontext

import pytest
import torch
import torchdiffeq
from torch import nn

from solvers import GRADIENTS, METHODS, Tableau, integrate, odeint
from solvers.methods import Combination
from tests.solvers.right_hand_sides import Counting, Linear, Tanh, Tricky

SHARED = [name for name, tableau in METHODS.items() if tableau.torchdiffeq]


def torchdiffeq_forward(rhs, z0, method, n_steps):
    grid = torch.linspace(0, 1, n_steps + 1, dtype=z0.dtype)
    return torchdiffeq.odeint(
        rhs,
        z0,
        torch.tensor([0, 1], dtype=z0.dtype),
        method=METHODS[method].torchdiffeq,
        options={"grid_constructor": lambda f, z, t: grid},
    )[-1]


@pytest.mark.parametrize(
    ("times", "stage", "update", "said"),
    [
        (
            (0.0, 1 / 2),
            (1.0,),
            (0.0, 1.0),
            r"must sum to \[0.0, 0.5, 1.0\], and sum to \[0.0, 1.0, 1.0\]",
        ),
        ((0.0, 1.0), (1.0,), (0.5, 0.4), "is not consistent: the weights"),
        ((0.5, 1.0), (1.0,), (0.5, 0.5), "is not consistent: the weights"),
        ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5), "needs a stage for each time but the first"),
        ((0.0,), (1.0,), (1.0,), "needs a stage for each time but the first"),
        ((0.0, 1.0), (1.0,), (float("nan"), 0.5), "is not consistent: the weights"),
    ],
)
def test_tableau_checks_itself(times, stage, update, said):
    with pytest.raises(ValueError, match=said):
        Tableau("mine", 2, times, (Combination(stage),), Combination(update), None)


@pytest.mark.parametrize("method", METHODS)
def test_error_falls_at_the_order_of_the_method(method):
    # dz/dt = z·cos(4t) has z(1) = exp(sin(4)/4).
    exact = math.exp(math.sin(4) / 4)
    errors = []
    for n_steps in (100, 200):
        z1 = integrate(
            lambda t, z: z * torch.cos(4 * t),
            torch.ones((), dtype=torch.float64),
            METHODS[method],
            n_steps,
        )
        errors.append(abs(float(z1) - exact))
    order = math.log2(errors[0] / errors[1])
    assert abs(order - METHODS[method].order) < 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 5, 7, 10, 61, 109, 115])
@pytest.mark.parametrize("method", SHARED)
def test_forward_pass_equals_torchdiffeq_bit_for_bit(method, n_steps, dtype):
    torch.manual_seed(n_steps)
    rhs = Linear(dtype=dtype)
    z0 = torch.randn(5, 3, dtype=dtype)
    ours = integrate(rhs, z0, METHODS[method], n_steps)
    assert torch.equal(ours, torchdiffeq_forward(rhs, z0, method, n_steps))


@pytest.mark.parametrize("method", SHARED)
def test_forward_pass_of_a_layered_block_equals_torchdiffeq_bit_for_bit(method):
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    z0 = torch.randn(4, 4, 6, 6)
    ours = integrate(rhs, z0, METHODS[method], 3)
    assert torch.equal(ours, torchdiffeq_forward(rhs, z0, method, 3))


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("n_steps", [2, 3, 5, 7])
@pytest.mark.parametrize("method", SHARED)
def test_forward_pass_in_mixed_precision_equals_torchdiffeq_bit_for_bit(method, n_steps, outer):
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    if not outer:
        layers = rhs.layers.bfloat16()
        rhs = lambda t, z: layers(z.bfloat16())  # noqa: E731
    z0 = torch.randn(4, 4, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
        ours = integrate(rhs, z0, METHODS[method], n_steps)
        theirs = torchdiffeq_forward(rhs, z0, method, n_steps)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("method", METHODS)
def test_each_step_evaluates_each_stage_once(method):
    rhs = Counting(Tanh())
    integrate(rhs, torch.ones(1, 3, dtype=torch.float64), METHODS[method], 4)
    assert len(rhs.times) == 4 * METHODS[method].n_stages
    assert rhs.times[0] == 0
    assert max(rhs.times) <= 1


def test_time_grid_serves_training_after_it_was_first_needed_in_inference_mode():
    rhs = nn.Linear(2, 2)

    def f(t, z):
        return rhs(z) * t

    with torch.inference_mode():
        integrate(f, torch.ones(1, 2), METHODS["rk2"], 17)
    integrate(f, torch.ones(1, 2), METHODS["rk2"], 17).sum().backward()
    assert rhs.weight.grad is not None


@pytest.mark.parametrize("gradient", ["backprop", "anode", "node"])
def test_memory_format_is_kept(gradient):
    rhs = Tricky(dropout=False).to(memory_format=torch.channels_last)
    z0 = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    z1 = odeint(rhs, z0, method="rk2", n_steps=2, gradient=gradient)
    assert z1.stride() == z0.stride()


def test_right_hand_side_must_keep_the_shape():
    with pytest.raises(ValueError, match=r"keep the state's shape.*\(2, 3\).*\(2, 1\)"):
        odeint(
            lambda t, z: z[:, :1],
            torch.ones(2, 3),
            method="euler",
            n_steps=1,
            gradient="backprop",
        )


def spoils_and_raises(t, z):
    t.add_(1)
    raise KeyError


@pytest.mark.parametrize(
    "gradient", ["backprop", "anode", "anode-auto", "anode-steps", "reversible"]
)
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
def test_what_a_right_hand_side_does_with_the_time_no_other_solve_sees(gradient, rhs, error):
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


@pytest.mark.parametrize("n_steps", [0, -1, 1.0, True, "2"])
def test_number_of_steps_must_be_a_positive_whole_number(n_steps):
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1"):
        odeint(nn.Identity(), torch.ones(1), method="rk2", n_steps=n_steps, gradient="anode")


@pytest.mark.parametrize(
    ("z0", "found"),
    [
        (torch.ones(1).long(), "torch.int64"),
        ((torch.ones(1),), "tuple"),
        ([1.0], "list"),
        (None, "NoneType"),
    ],
)
def test_state_must_be_a_floating_point_tensor(z0, found):
    with pytest.raises(ValueError, match=f"must be a floating-point tensor, not {found}"):
        odeint(lambda t, z: z, z0, method="rk2", n_steps=1, gradient="anode")


@pytest.mark.parametrize("gradient", [name for name in GRADIENTS if "rk45" not in name])
def test_state_keeps_its_precision_where_slopes_are_more_precise(gradient):
    torch.manual_seed(0)
    layer = nn.Linear(3, 3).double()
    rhs = Cast(layer)
    z0 = torch.randn(2, 3, requires_grad=True)
    z1 = odeint(rhs, z0, method="rk2", n_steps=3, gradient=gradient)
    assert z1.dtype == torch.float32
    if gradient != "reversible":
        assert torch.equal(z1, odeint(rhs, z0, method="rk2", n_steps=3, gradient="backprop"))
    z1.sum().backward()
    assert z0.grad.dtype == torch.float32


class Cast(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, t, z):
        return self.layer(z.double())


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_empty_batch_has_gradients_of_zero(gradient):
    rhs = Tanh()
    for _ in range(2):  # anode-auto plans the second
        z0 = torch.empty(0, 3, dtype=torch.float64, requires_grad=True)
        z1 = odeint(rhs, z0, method="rk2", n_steps=2, gradient=gradient)
        z1.sum().backward()
        assert z1.shape == z0.grad.shape == (0, 3)
        assert not rhs.matrix.grad.any()


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, t, z):
        return torch.ones_like(z)


@pytest.mark.parametrize(
    "gradient",
    ["backprop", "anode", "anode-auto", "anode-steps", "anode-revolve", "symplectic", "reversible"],
)
def test_parameters_that_nothing_depends_on_have_no_gradient(gradient):
    rhs, head = Constant(), nn.Linear(3, 3)
    for _ in range(2):
        z1 = odeint(rhs, torch.ones(2, 3), method="rk2", n_steps=2, gradient=gradient)
        head(z1).sum().backward()
    assert rhs.unused.grad is None


@pytest.mark.parametrize(
    "gradient", ["anode", "anode-auto", "anode-steps", "anode-revolve", "symplectic"]
)
def test_a_call_that_is_refused_leaves_no_trace(gradient):
    rhs, z0 = Tanh(), torch.ones(2, 3, dtype=torch.float64)
    case = {"method": "rk2", "n_steps": 2, "gradient": gradient}
    with pytest.raises(RuntimeError, match="setup_context|vmap"):
        torch.vmap(lambda z: odeint(rhs, z, **case))(z0)
    odeint(rhs, z0, **case).sum().backward()
    assert rhs.matrix.grad.any()
