"""Exact gradients: the very bits of backprop, or its gradient up to the order of summation."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from solvers import GRADIENTS, METHODS, Tableau, odeint
from solvers.gradients import exactness, reference
from solvers.methods import Combination
from tests.solvers.right_hand_sides import Linear, Tanh, Tricky

WHOLE_BLOCKS = ("anode", "anode-auto")
"""Methods that sum as backprop does, in a network with one block."""

DIVIDED_BLOCKS = (
    "anode-steps",
    "anode-revolve",
    "anode-revolve:m=1",
    "symplectic",
    "symplectic:m=1",
)
SUM_ALIKE_WITH_EULER = ("anode-steps", "anode-revolve", "anode-revolve:m=1")
"""Methods that differentiate one step at a time as a whole."""

RECOMPUTING = (
    *("anode", "anode-auto", "anode-steps", "anode-revolve:m=2", "reversible"),
    *("symplectic", "symplectic:m=2", "mixed", "mixed:dtype=float16"),
)
HEUN3 = Tableau(
    *("heun3", 3, (0.0, 1 / 3, 2 / 3)),
    (Combination((1.0,), 1 / 3), Combination((0.0, 2.0), 1 / 3)),
    Combination((1.0, 0.0, 3.0), 1 / 4),
    None,
)
"""A scheme whose second weight b is 0, a special case of the symplectic adjoint as published."""

SCHEMES = [*METHODS.values(), HEUN3]


def observe(
    rhs, z0, *, method, n_steps, gradient, autocast=None, backwards=1, seed=0, between=None
):
    """Everything that a gradient method may influence: z1, gradients, buffers, the random state.

    autocast: "forward" or "both" passes in bfloat16. between: called with rhs after the forward
    pass. The buffers are restored.
    """

    assert autocast in (None, "forward", "both")

    def context(*passes):
        on = autocast in passes
        return torch.autocast("cpu", dtype=torch.bfloat16) if on else nullcontext()

    rhs.zero_grad()
    start = {name: buffer.clone() for name, buffer in rhs.named_buffers()}
    z0 = z0.detach().requires_grad_()
    torch.manual_seed(seed)
    with context("forward", "both"):
        z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
        loss = (z1.float().sin() ** 2).sum()
    if between:
        between(rhs)
    for _ in range(backwards):
        with context("both"):
            loss.backward(retain_graph=True)
    found = {"z1": z1.detach(), "z0": z0.grad, "random": torch.rand(3)}
    found |= {f"gradient of {name}": p.grad for name, p in rhs.named_parameters()}
    found |= {f"buffer {name}": buffer.clone() for name, buffer in rhs.named_buffers()}
    for name, buffer in rhs.named_buffers():
        buffer.copy_(start[name])
    return found


def assert_same_gradient(one, other, tolerance):
    """All gradients together differ by at most this relative norm, and all else has the same bits.

    Behind a bias that BatchNorm removes the gradient is rounding alone, so none is judged alone.
    """
    assert one.keys() == other.keys()
    difference, whole = [], []
    for name in one:
        if one[name] is None or other[name] is None:
            assert one[name] is other[name], name
        elif name == "z0" or name.startswith("gradient of"):
            difference.append((one[name] - other[name]).norm())
            whole.append(other[name].norm())
        else:
            assert torch.equal(one[name], other[name]), name
    assert float(torch.stack(difference).norm()) <= tolerance * float(torch.stack(whole).norm())


def assert_same_bits(one, other, summation=0.0):
    """summation: relative difference that is allowed in the gradients of parameters."""
    assert one.keys() == other.keys()
    for name in one:
        if one[name] is None or other[name] is None:
            assert one[name] is other[name], name
        elif summation and name.startswith("gradient of"):
            norm = max(1e-30, float(other[name].norm()))
            assert float((one[name] - other[name]).norm()) <= summation * norm, name
        else:
            assert one[name].stride() == other[name].stride(), name
            assert torch.equal(one[name], other[name]), name


RANDOM_CASE = {
    "seed": st.integers(0, 2**32),
    "method": st.sampled_from(SCHEMES),
    "n_steps": st.integers(1, 6),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
    "channels_last": st.booleans(),
    "training": st.booleans(),
    "autocast": st.sampled_from([None, "forward"]),
    "backwards": st.integers(1, 2),
    "m": st.integers(1, 4),
    "layers": st.fixed_dictionaries(
        {
            **{name: st.booleans() for name in ("norm", "dropout", "time", "frozen", "unused")},
            "activation": st.sampled_from([nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.Softplus]),
        }
    ),
}


EULER_IN_FIVE_STEPS = {
    **{"seed": 0, "method": METHODS["euler"], "n_steps": 5, "dtype": torch.float32, "m": 4},
    **{"channels_last": False, "training": True, "autocast": None, "backwards": 1},
    "layers": {
        **{"norm": True, "dropout": False, "time": True, "frozen": False, "unused": False},
        "activation": nn.Tanh,
    },
}
"""A case in which a method that differentiates several steps at once sums in another order."""


def random_problem(seed, dtype, channels_last, training, layers):
    torch.manual_seed(seed)
    rhs = Tricky(**layers).to(dtype).train(training)
    z0 = torch.randn(3, 4, 5, 5, dtype=dtype)
    if channels_last:
        rhs = rhs.to(memory_format=torch.channels_last)
        z0 = z0.contiguous(memory_format=torch.channels_last)
    return rhs, z0


@pytest.mark.parametrize("gradient", [*WHOLE_BLOCKS, *DIVIDED_BLOCKS])
@given(**RANDOM_CASE)
@example(**EULER_IN_FIVE_STEPS)
@settings(max_examples=40)
def test_gradient_is_backprops_bit_for_bit_but_for_the_order_of_summation(
    gradient, seed, method, n_steps, m, dtype, autocast, backwards, **problem
):
    rhs, z0 = random_problem(seed, dtype, **problem)
    autocast = autocast if dtype == torch.float32 else None
    case = {"method": method, "n_steps": n_steps, "autocast": autocast, "seed": seed % 1000}
    # Under autocast backprop sums in bfloat16, whose unit is 2⁻⁸.
    summation = 2e-2 if autocast else 1e-14 if dtype == torch.float64 else 1e-5
    sums_alike = gradient in WHOLE_BLOCKS or (
        gradient in SUM_ALIKE_WITH_EULER and method.name == "euler" and not autocast
    )
    case |= {"backwards": backwards}
    gradient = gradient.replace(":m=1", f":m={min(m, n_steps)}")
    reference = observe(rhs, z0, gradient="backprop", **case)
    for _ in range(2):  # anode-auto observes its first pass, and has a plan for the second
        found = observe(rhs, z0, gradient=gradient, **case)
        assert_same_bits(found, reference, 0.0 if sums_alike else summation)


def test_every_method_that_states_backprops_gradient_is_tested():
    stated = {
        name
        for name, method in GRADIENTS.items()
        if exactness(method) != "inexact" and reference(method) == "backprop"
    }
    others = {"backprop", "backprop-torchdiffeq"}  # the reference; a library with its own schemes
    assert stated - others == {name.partition(":")[0] for name in (*WHOLE_BLOCKS, *DIVIDED_BLOCKS)}


def test_every_exact_method_that_evaluates_again_is_tested():
    exact = {name for name, m in GRADIENTS.items() if exactness(m) != "inexact"}
    stored = {name for name in exact if name.startswith("backprop")}
    adaptive = {"anode-rk45"}  # tests/solvers/gradients/test_anode_rk45.py
    assert exact - stored - adaptive <= {name.partition(":")[0] for name in RECOMPUTING}


def test_exactness_test_can_fail():
    torch.manual_seed(0)
    rhs, z0, case = Tricky(dropout=False), torch.randn(3, 4, 5, 5), {"method": "rk2", "n_steps": 2}
    reference = observe(rhs, z0, gradient="backprop", **case)
    with pytest.raises(AssertionError, match="z0"):
        assert_same_bits(observe(rhs, z0, gradient="node", **case), reference)


class OwnAutocast(Tricky):
    def forward(self, t, z):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(t, z).float()


def with_spectral_norm():
    rhs = Tricky(dropout=False)  # a power iteration in every evaluation in training mode
    nn.utils.parametrizations.spectral_norm(rhs.layers[0])
    return rhs


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (with_spectral_norm, {"backwards": 2}),
        (Tricky, {"between": lambda rhs: rhs.eval()}),
        (lambda: Tricky(norm=False), {"autocast": "both"}),
        (OwnAutocast, {}),
        (OwnAutocast, {"autocast": "forward"}),
    ],
    ids=["buffers", "mode", "backward under autocast", "own autocast", "autocast in autocast"],
)
def test_anode_is_exact_whatever_surrounds_the_two_passes(make, how):
    torch.manual_seed(0)
    rhs, z0, case = make(), torch.randn(3, 4, 5, 5), {"method": "rk2", "n_steps": 3, **how}
    reference = observe(rhs.train(), z0, gradient="backprop", **case)
    assert_same_bits(observe(rhs.train(), z0, gradient="anode", **case), reference)


class Conditioned(Tanh):
    def forward(self, t, z):
        return super().forward(t, z) + self.condition


@pytest.mark.parametrize("gradient", RECOMPUTING)
def test_hooks_are_called_once_with_the_whole_gradient(gradient):
    """The hooks of a parameter, and of a tensor that the right-hand side holds."""
    torch.manual_seed(0)
    rhs, encoder = Conditioned(), nn.Linear(3, 3).double()
    z0, seen = torch.randn(2, 3, dtype=torch.float64), []

    def doubled(gradient):
        seen.append(gradient)
        return 2 * gradient

    rhs.matrix.register_hook(doubled)

    def gradients(method):
        rhs.zero_grad()
        encoder.zero_grad()
        seen.clear()
        rhs.condition = encoder(z0)
        rhs.condition.register_hook(doubled)
        z1 = odeint(rhs, z0, method="rk2", n_steps=3, gradient=method)
        odeint(rhs, z1, method="rk2", n_steps=3, gradient=method).sum().backward()
        return [rhs.matrix.grad, encoder.weight.grad, *sorted(seen, key=lambda g: g.numel())]

    expected = gradients("backprop")
    assert len(expected) == 4
    for _ in range(2):  # anode-auto stores a part in the second
        found = gradients(gradient)
        assert len(found) == 4
        if gradient == "reversible":  # another forward pass
            assert torch.equal(found[0], 2 * found[3])
        else:
            torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


class Watched(Tanh):
    def forward(self, t, z):
        self.activation = super().forward(t, z)
        return self.activation


@pytest.mark.parametrize("gradient", RECOMPUTING)
def test_right_hand_side_may_keep_an_activation_to_look_at(gradient):
    torch.manual_seed(0)
    rhs, z0, found = Watched(), torch.randn(2, 3, dtype=torch.float64), []
    for _ in range(3):
        rhs.zero_grad()
        z1 = odeint(rhs, z0, method="rk2", n_steps=3, gradient=gradient)
        odeint(rhs, z1, method="rk2", n_steps=3, gradient=gradient).sum().backward()
        assert not rhs.activation.requires_grad
        found.append(rhs.matrix.grad)
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_agrees_with_finite_differences(method):
    torch.manual_seed(0)
    rhs, z0 = Linear(), torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def solve(z, matrix):
        return odeint(rhs, z, method=method, n_steps=3, gradient="backprop")

    assert torch.autograd.gradcheck(solve, (z0, rhs.matrix))


def test_lazy_module_is_refused_until_it_has_its_parameters():
    rhs = Tricky()
    rhs.layers[0] = nn.LazyConv2d(6, 3, padding=1)
    with pytest.raises(ValueError, match="lazy modules without parameters: evaluate it once"):
        odeint(rhs, torch.ones(2, 4, 5, 5), method="rk2", n_steps=1, gradient="anode")


def test_changing_a_weight_in_place_between_the_passes_is_an_error():
    rhs, z0 = Tanh(), torch.ones(2, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method="rk2", n_steps=2, gradient="anode")
    with torch.no_grad():
        rhs.matrix.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z1.sum().backward()


@pytest.mark.parametrize("gradient", ["backprop", "anode", "node"])
def test_plain_function_is_a_right_hand_side_without_parameters(gradient):
    z0 = torch.ones(2, 3, requires_grad=True)
    z1 = odeint(lambda t, z: -z, z0, method="euler", n_steps=2, gradient=gradient)
    assert torch.equal(z1, torch.full((2, 3), 0.25))
    z1.sum().backward()
    assert z0.grad is not None
    assert not odeint(
        lambda t, z: -z, z0.detach(), method="euler", n_steps=2, gradient=gradient
    ).requires_grad
