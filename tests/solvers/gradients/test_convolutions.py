"""Remembered convolutions: the same bits, and nothing repeated that is remembered."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import models
from models import ODEBlock
from models.layers import Autonomous
from solvers import InexactError
from solvers.gradients.anode_auto import planner
from solvers.gradients.anode_auto.convolutions import Recall, Remember
from solvers.gradients.anode_auto.method import AnodeAuto
from solvers.gradients.anode_auto.plan import BlockPlan
from tests.solvers.right_hand_sides import Holding

LAYERS = {
    "plain": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 6, 3)),
    "grouped": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False)),
    "strided, dilated": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 6, 3, 2, 1, dilation=2)),
    "of a line": ((2, 4, 9), lambda: nn.Conv1d(4, 6, 3, padding=1)),
    "of a volume": ((2, 4, 5, 5, 5), lambda: nn.Conv3d(4, 6, 3, padding=1)),
    "padded by name": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 6, 3, padding="same")),
}


@pytest.fixture
def planned(monkeypatch):
    """Call it: every block stores that number of evaluations, and remembers convolutions or not."""

    def plan(stored=0, remembers=True):
        def made(sizes, budget=None):
            return tuple(BlockPlan(stored, None, 0, remembers) for _ in sizes)

        monkeypatch.setattr(planner, "plan", made)

    plan()
    return plan


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_recalled_convolution_has_the_bits_and_the_gradients_of_its_own(name, dtype):
    torch.manual_seed(0)
    shape, make = LAYERS[name]
    layer, x = make().to(dtype), torch.randn(shape, dtype=dtype, requires_grad=True)
    remembered, expected = Remember(), layer(x)
    with torch.no_grad(), remembered:
        layer(x)
    with Recall(remembered):
        found = layer(x)
    assert torch.equal(found, expected)
    gradient, wanted = torch.randn_like(expected), (x, *layer.parameters())
    gradients = (torch.autograd.grad(y, wanted, gradient) for y in (found, expected))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_keyword_arguments_are_understood_and_changed_results_are_noticed():
    x, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3, requires_grad=True)
    remembered, expected = Remember(), F.conv2d(x, weight, padding=1)
    with torch.no_grad(), remembered:
        F.conv2d(x, weight, padding=1)
    with Recall(remembered):
        found = F.conv2d(input=x, weight=weight, padding=1)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(y.sum(), weight)[0] for y in (found, expected)))
    remembered = Remember()
    with torch.no_grad(), remembered:
        result = F.conv2d(x, weight, padding=1)
    assert remembered.is_intact()
    result.relu_()
    assert not remembered.is_intact()


class GradientFlow(nn.Module):
    """−∇V of a potential with a convolution: differentiates inside itself."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.outer = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, t, z):
        with torch.enable_grad():
            x = z if z.requires_grad else z.detach().requires_grad_()
            potential = self.outer(torch.tanh(self.inner(x))).square().sum()
            (slope,) = torch.autograd.grad(potential, x, create_graph=True)
        return -0.01 * slope


def passes(gradient, make, *, method="rk2", autocast=False, dtype=torch.float32):
    """z1, the gradients and the buffers after two passes, of which anode-auto observes one."""
    torch.manual_seed(0)
    rhs = make().to(dtype)
    block = ODEBlock(rhs, method=method, n_steps=2, gradient=gradient)
    for _ in range(2):
        torch.manual_seed(1)
        z0 = torch.randn(2, 4, 6, 6, dtype=dtype, requires_grad=True)
        rhs.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            z1 = block(z0)
        (z1.float() if autocast else z1).square().sum().backward()
    gradients = [p.grad for p in rhs.parameters() if p.grad is not None]
    return [z1.detach(), z0.grad, *gradients, *rhs.buffers()]


@pytest.mark.parametrize(
    ("activation", "dropout", "autocast"),
    [
        (nn.Tanh(), 0.0, False),
        (nn.ReLU(inplace=True), 0.0, False),  # overwrites what is remembered
        (nn.Tanh(), 0.3, False),
        (nn.Tanh(), 0.0, True),
    ],
)
@pytest.mark.parametrize("method", ["euler", "rk2", "rk4"])
def test_block_that_remembers_has_backprops_gradient_bit_for_bit(
    planned, method, activation, dropout, autocast
):
    def make():
        layers = nn.Conv2d(4, 4, 3, padding=1), activation, nn.BatchNorm2d(4), nn.Dropout(dropout)
        return Autonomous(*layers)

    found, expected = (
        passes(gradient, make, method=method, autocast=autocast)
        for gradient in (AnodeAuto(), "backprop")
    )
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("plan", [(0, True), (1, False), (1, True), (3, True)])
def test_right_hand_side_that_differentiates_inside_itself_keeps_its_gradient(planned, plan):
    planned(*plan)
    found, expected = (
        passes(gradient, GradientFlow, dtype=torch.float64)
        for gradient in (AnodeAuto(), "backprop")
    )
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
    assert torch.equal(found[1], expected[1])


def test_remembered_convolutions_are_not_computed_again(planned):
    counts = []

    class Convolutions(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            counts[-1] += function == torch.ops.aten.convolution.default
            return function(*args, **(kwargs or {}))

    network = models.build("resnet10", method="rk2", n_steps=2, gradient=AnodeAuto())
    images = torch.randn(2, 3, 32, 32)
    for _ in range(2):
        counts.append(0)
        with Convolutions():
            network(images).sum().backward()
    assert counts[0] - counts[1] == 2 * 4 * 2  # blocks, evaluations, convolutions in each


@pytest.mark.parametrize("change", ["factor", "layer"])
def test_convolution_that_is_remembered_must_be_the_same(planned, change):
    held = {"layer": nn.Conv2d(2, 2, 3, padding=1), "factor": 1.0}
    rhs = Holding(held, lambda held, z: rhs.layer(z * held["factor"]))
    rhs.layer = held["layer"]
    block = ODEBlock(rhs, method="rk2", n_steps=2, gradient=AnodeAuto())
    z0 = torch.ones(1, 2, 4, 4, requires_grad=True)
    block(z0).sum().backward()
    z1 = block(z0)
    if change == "factor":
        held["factor"] = 2.0
    else:
        rhs.layer = nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False)
    with pytest.raises(InexactError):
        z1.sum().backward()
