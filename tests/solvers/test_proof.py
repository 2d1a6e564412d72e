"""Where the second pass is not the first one, backward says so: exact, or an error."""

import copy
import random
import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from models import ODEBlock
from solvers import GRADIENTS, InexactError, odeint
from solvers.gradients.anode_auto import planner
from solvers.gradients.anode_auto.method import AnodeAuto
from solvers.gradients.anode_auto.plan import BlockPlan
from solvers.proof import checksum
from tests.solvers.test_exactness import RUN_AGAIN

VARIABLE = {"factor": 0.5}


class Changeable(nn.Module):
    """f = tanh(layer(z) · scale · factor); the factor comes from everywhere."""

    def __init__(self, sources):
        super().__init__()
        self.layer = nn.Linear(3, 3).double()
        self.scale = nn.Parameter(torch.full((3,), 0.7, dtype=torch.float64))
        self.sources, self.factor, self.count = sources, 0.3, 0

    def forward(self, t, z):
        factor = self.factor + VARIABLE["factor"]
        factor += random.random() if "python" in self.sources else 0
        factor += np.random.rand() if "numpy" in self.sources else 0
        factor += torch.rand(()) if "torch" in self.sources else 0
        if "counter" in self.sources:
            self.count += 1
            factor += 0.01 * self.count
        return torch.tanh(self.layer(z) * self.scale * factor)


class Doubling(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return 2 * result if function is torch.tanh else result


def other_layer(rhs, *, like, frozen):
    layer = copy.deepcopy(rhs.layer) if like else nn.Linear(3, 3).double()
    rhs.layer = layer.requires_grad_(not frozen)


BETWEEN = {
    "an attribute": lambda rhs: setattr(rhs, "factor", 2.0),
    "a variable": lambda rhs: VARIABLE.update(factor=2.0),
    "a like layer": lambda rhs: other_layer(rhs, like=True, frozen=False),
    "a like layer, frozen": lambda rhs: other_layer(rhs, like=True, frozen=True),
    "another layer": lambda rhs: other_layer(rhs, like=False, frozen=False),
    "a like parameter": lambda rhs: setattr(rhs, "scale", nn.Parameter(rhs.scale.detach().clone())),
    "data": lambda rhs: setattr(rhs.scale, "data", rhs.scale.data * 2),
    "a frozen parameter": lambda rhs: rhs.scale.requires_grad_(False),
    "the mode": lambda rhs: rhs.eval(),
    "the random state": lambda rhs: torch.manual_seed(1),
}
HARMLESS = {"a frozen parameter", "the mode", "the random state"}


def gradients(gradient, *, sources, between, forward, n_steps, method):
    """In z0, and in the parameters of the forward pass."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    VARIABLE.update(factor=0.5)
    rhs = Changeable(sources)
    z0 = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    wanted = [z0, *rhs.parameters()]
    storing = GRADIENTS["reversible"].solve_storing

    def solve(z):
        if gradient == "reversible, stored":
            return storing(rhs, z, method, n_steps)
        return odeint(rhs, z, method=method, n_steps=n_steps, gradient=gradient)

    for _ in range(2):  # anode-auto watches the first
        if forward == "functional_call":
            fast = {n: p.detach().clone().requires_grad_() for n, p in rhs.named_parameters()}
            block = ODEBlock(rhs, method=method, n_steps=n_steps, gradient="backprop")
            block.forward = solve
            z1 = functional_call(block, {f"rhs.{name}": p for name, p in fast.items()}, (z0,))
            wanted += fast.values()
        else:
            with Doubling() if forward == "a mode" else nullcontext():
                z1 = solve(solve(z0))
        loss = z1.square().sum()
        for name in between:
            BETWEEN[name](rhs)
        loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]


@pytest.mark.parametrize("gradient", RUN_AGAIN)
@given(
    sources=st.frozensets(st.sampled_from(["python", "numpy", "torch", "counter"]), max_size=2),
    between=st.lists(st.sampled_from(list(BETWEEN)), max_size=2, unique=True),
    forward=st.sampled_from(["plain", "plain", "functional_call", "a mode"]),
    n_steps=st.integers(2, 4),
    method=st.sampled_from(["euler", "rk2", "rk4"]),
)
@hypothesis_settings(max_examples=60)
def test_gradient_is_backprops_or_an_error_whatever_changes_between_the_passes(gradient, **case):
    reference = "reversible, stored" if gradient == "reversible" else "backprop"
    expected = gradients(reference, **case)
    try:
        found = gradients(gradient, **case)
    except InexactError:
        is_the_same = case["forward"] == "plain" and case["sources"] <= {"torch"}
        assert not (is_the_same and HARMLESS.issuperset(case["between"]))
        return
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradient", RUN_AGAIN)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("an attribute", "was not the same when the backward pass ran it again: an attribute"),
        ("a like parameter", "scale of the right-hand side is another object in the backward pass"),
    ],
)
def test_error_says_what_usually_causes_it(gradient, change, said):
    case = {"sources": set(), "forward": "plain", "n_steps": 2, "method": "rk2"}
    with pytest.raises(InexactError, match=said):
        gradients(gradient, between=[change], **case)


@pytest.mark.parametrize("change", ["an attribute", "a like layer, frozen"])
def test_convolution_that_is_remembered_must_be_the_same(monkeypatch, change):
    def remember(sizes, budget=None):
        return tuple(BlockPlan(0, None, 0, remembers=True) for _ in sizes)

    monkeypatch.setattr(planner, "plan", remember)
    rhs, auto = Changeable(set()), AnodeAuto()
    rhs.layer = nn.Conv2d(2, 2, 3, padding=1)
    rhs.forward = lambda t, z: rhs.layer(z * rhs.factor)
    z0 = torch.ones(1, 2, 4, 4, requires_grad=True)
    odeint(rhs, z0, method="rk2", n_steps=2, gradient=auto).sum().backward()
    z1 = odeint(rhs, z0, method="rk2", n_steps=2, gradient=auto)
    BETWEEN[change](rhs)
    with pytest.raises(InexactError):
        z1.sum().backward()


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64]),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_checksum_changes_with_every_bit_and_every_place(shape, dtype, seed, data):
    torch.manual_seed(seed)
    tensor = torch.randn(shape).to(dtype)
    (known,) = checksum([tensor])
    assert checksum([tensor.clone()]) == [known]
    bits = tensor.element_size() * 8
    one = tensor.clone().view({16: torch.int16, 32: torch.int32, 64: torch.int64}[bits])
    place = data.draw(st.integers(0, tensor.numel() - 1))
    one.view(-1)[place] ^= 1 << data.draw(st.integers(0, bits - 2))
    assert checksum([one.view(dtype)]) != [known]
    assert checksum([-tensor]) != [known]
    flipped = tensor.flip(data.draw(st.integers(0, len(shape) - 1)))
    assert torch.equal(flipped, tensor) or checksum([flipped]) != [known]


@pytest.mark.parametrize("count", [2, 254, 8 * 127, 1 << 16])
def test_checksum_sees_the_signs_of_zeros(count):
    zeros = torch.zeros(count)
    assert checksum([zeros]) != checksum([-zeros])


def hide_in_list(layer):
    rhs = nn.Module()
    rhs.layers = [layer]
    rhs.forward = lambda t, z: rhs.layers[0](z)
    return rhs


def hide_in_dict(layer):
    rhs = nn.Module()
    rhs.layers = {"only": (layer,)}
    rhs.forward = lambda t, z: rhs.layers["only"][0](z)
    return rhs


def hide_in_class(layer):
    class Rhs(nn.Module):
        hidden = (layer.weight,)

        def forward(self, t, z):
            return z @ self.hidden[0]

    return Rhs()


def hide_in_slot(layer):
    class Slotted(nn.Module):
        __slots__ = ("weight",)

        def forward(self, t, z):
            return z @ self.weight

    rhs = Slotted()
    Slotted.weight.__set__(rhs, layer.weight)
    return rhs


def hide_in_default(layer):
    def rhs(t, z, weight=layer.weight):
        return z @ weight

    return rhs


def hide_in_object(layer):
    class Holder:
        pass

    holder = Holder()
    holder.layer = layer
    return lambda t, z: holder.layer(z)


def hide_what_is_computed(layer):
    weight = 2 * layer.weight
    return lambda t, z: z @ weight


HIDDEN = {
    "a list": hide_in_list,
    "a tuple in a dictionary": hide_in_dict,
    "a class": hide_in_class,
    "a slot": hide_in_slot,
    "a default argument": hide_in_default,
    "a closure": lambda layer: lambda t, z: layer(z),
    "a bound method": lambda layer: BoundMethod(layer).evaluate,
    "an object in a closure": hide_in_object,
    "a tensor that is no leaf": hide_what_is_computed,
}


class BoundMethod:
    def __init__(self, layer):
        self.layer = layer

    def evaluate(self, t, z):
        return self.layer(z)


@pytest.mark.parametrize("z0_requires_grad", [True, False])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("where", HIDDEN)
def test_hidden_parameters_have_backprops_gradient_or_are_an_error(
    where, gradient, z0_requires_grad
):
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    z0 = torch.randn(2, 3, requires_grad=z0_requires_grad)

    def differentiate(name):
        layer.zero_grad()
        rhs = HIDDEN[where](layer)
        odeint(rhs, z0, method="rk2", n_steps=1, gradient=name).sum().backward()
        return layer.weight.grad.clone()

    expected = differentiate("backprop")
    try:
        found = differentiate(gradient)
    except InexactError as error:
        found = str(error)
    if isinstance(found, str):
        assert re.search(r"shape \(3, 3\).* was none of its parameters: make it a param", found)
        assert "backprop" not in gradient
    else:
        torch.testing.assert_close(found, expected)
        assert "backprop" in gradient or not z0_requires_grad


class Potential(nn.Module):
    """−∇V, differentiated inside itself at a leaf of its own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, t, z):
        with torch.enable_grad():
            x = z.detach().requires_grad_()
            return -torch.autograd.grad(self.layer(x).sin().sum(), x, create_graph=True)[0]


@pytest.mark.parametrize(
    "gradient", ["anode", "anode-auto", "anode-steps", "anode-revolve", "symplectic"]
)
def test_leaf_that_the_right_hand_side_makes_itself_is_none_of_its_parameters(gradient):
    torch.manual_seed(0)
    rhs, found = Potential(), []
    for name in ("backprop", gradient, gradient):
        rhs.zero_grad()
        odeint(rhs, torch.ones(2, 3), method="euler", n_steps=3, gradient=name).sum().backward()
        found.append(rhs.layer.weight.grad)
    torch.testing.assert_close(found[1:], found[:1] * 2)
