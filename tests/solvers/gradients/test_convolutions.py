"""Remembered convolutions: the same bits, and nothing repeated that is remembered."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import ODEBlock, ode_blocks
from models.layers import Autonomous
from solvers.gradients.anode_auto import planner
from solvers.gradients.anode_auto.convolutions import Recall, Remember, Remembered
from solvers.gradients.anode_auto.method import AnodeAuto
from solvers.gradients.anode_auto.plan import BlockPlan

CONVOLUTIONS = {
    "plain": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 6, 3)),
    "grouped": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False)),
    "strided, dilated": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 6, 3, 2, 1, dilation=2)),
    "of a line": ((2, 4, 9), lambda: nn.Conv1d(4, 6, 3, padding=1)),
    "of a volume": ((2, 4, 5, 5, 5), lambda: nn.Conv3d(4, 6, 3, padding=1)),
    "padded by name": ((2, 4, 9, 9), lambda: nn.Conv2d(4, 6, 3, padding="same")),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_recalled_convolution_has_the_bits_and_the_gradients_of_its_own(name, dtype):
    torch.manual_seed(0)
    shape, make = CONVOLUTIONS[name]
    layer, x = make().to(dtype), torch.randn(shape, dtype=dtype, requires_grad=True)
    expected = layer(x)
    gradient = torch.randn_like(expected)
    wanted = (x, *layer.parameters())
    gradients = torch.autograd.grad(expected, wanted, gradient)
    remembered = Remembered()
    with torch.no_grad(), Remember(remembered):
        layer(x)
    with Recall(remembered):
        found = layer(x)
    assert torch.equal(found, expected)
    for one, other in zip(torch.autograd.grad(found, wanted, gradient), gradients, strict=True):
        assert torch.equal(one, other)


def test_keyword_arguments_are_understood():
    x, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3, requires_grad=True)
    remembered = Remembered()
    with torch.no_grad(), Remember(remembered):
        F.conv2d(x, weight, padding=1)
    with Recall(remembered):
        found = F.conv2d(input=x, weight=weight, padding=1)
    expected = F.conv2d(x, weight, padding=1)
    (one,) = torch.autograd.grad(found.sum(), weight)
    (other,) = torch.autograd.grad(expected.sum(), weight)
    assert torch.equal(found, expected)
    assert torch.equal(one, other)


def test_result_that_is_changed_in_place_is_not_recalled():
    remembered = Remembered()
    with torch.no_grad(), Remember(remembered):
        result = nn.Conv2d(2, 2, 3)(torch.randn(1, 2, 5, 5))
    assert remembered.is_intact()
    result.relu_()
    assert not remembered.is_intact()


class Counting(nn.Module):
    """Convolution, activation, dropout; counts how often the convolution is computed."""

    def __init__(self, activation, dropout):
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.rest = nn.Sequential(activation, nn.BatchNorm2d(4), nn.Dropout(dropout))

    def forward(self, x):
        return self.rest(self.convolution(x))


@pytest.mark.parametrize(
    ("activation", "dropout", "autocast"),
    [
        (nn.Tanh(), 0.0, False),
        (nn.ReLU(inplace=True), 0.0, False),  # spoils what is remembered
        (nn.Tanh(), 0.3, False),
        (nn.Tanh(), 0.0, True),
    ],
)
@pytest.mark.parametrize("method", ["euler", "rk2", "rk4"])
def test_block_that_remembers_has_backprops_gradient_bit_for_bit(
    monkeypatch, method, activation, dropout, autocast
):
    def remember(sizes, budget=None):
        return tuple(BlockPlan(0, None, 0, remembers=True) for _ in sizes)

    monkeypatch.setattr(planner, "plan", remember)
    found = []
    for gradient in (AnodeAuto(), "backprop"):
        torch.manual_seed(0)
        rhs = Autonomous(Counting(activation, dropout))
        block = ODEBlock(rhs, method=method, n_steps=2, gradient=gradient)
        for _ in range(2):  # the first pass is watched
            torch.manual_seed(1)
            z0 = torch.randn(2, 4, 6, 6, requires_grad=True)
            rhs.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
                z1 = block(z0)
            z1.float().square().sum().backward()
        found.append([z1, z0.grad, *(p.grad for p in rhs.parameters()), *rhs.buffers()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_remembered_convolutions_are_not_computed_again(monkeypatch):
    from torch.utils._python_dispatch import TorchDispatchMode

    import models

    class Convolutions(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            Convolutions.count += function == torch.ops.aten.convolution.default
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(
        planner,
        "plan",
        lambda sizes, budget=None: tuple(BlockPlan(0, None, 0, remembers=True) for _ in sizes),
    )
    network = models.build("resnet10", method="rk2", n_steps=2, gradient=AnodeAuto())
    assert len(ode_blocks(network)) == 2
    images = torch.randn(2, 3, 32, 32)
    counts = []
    for _ in range(2):
        Convolutions.count = 0
        with Convolutions():
            network(images).sum().backward()
        counts.append(Convolutions.count)
    assert counts[0] - counts[1] == 2 * 4 * 2  # blocks, evaluations, convolutions in each


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


@pytest.mark.parametrize("plan", [(0, True), (1, False), (1, True), (3, True)])
def test_right_hand_side_that_differentiates_inside_itself_keeps_its_gradient(monkeypatch, plan):
    stored, remembers = plan
    monkeypatch.setattr(
        planner,
        "plan",
        lambda sizes, budget=None: tuple(BlockPlan(stored, None, 0, remembers) for _ in sizes),
    )
    found = []
    for gradient in (AnodeAuto(), "backprop"):
        torch.manual_seed(0)
        rhs = GradientFlow().double()
        block = ODEBlock(rhs, method="rk2", n_steps=2, gradient=gradient)
        for _ in range(2):
            rhs.zero_grad()
            z0 = torch.ones(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
            block(z0).square().sum().backward()
        found.append([z0.grad, *(p.grad for p in rhs.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)
    assert torch.equal(found[0][0], found[1][0])
