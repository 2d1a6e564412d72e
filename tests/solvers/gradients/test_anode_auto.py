"""anode-auto: exact, within its budget, and no step run again that need not be."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import models
from bench.instruments.memory import _LiveBytes, peak_bytes
from models.layers import Autonomous, conv_bn_relu
from solvers.gradients.anode_auto import planner
from solvers.gradients.anode_auto.method import AnodeAuto
from solvers.gradients.anode_auto.plan import BlockPlan
from tests.bench.builders import CPU


def chain(stages, gradient, *, method="euler", dtype=torch.float32):
    """ODE blocks of these (width, steps, halved), each behind a convolution, and a head."""
    torch.manual_seed(0)
    layers, inputs = [], 3
    for width, n_steps, halved in stages:
        layers += conv_bn_relu(inputs, width, 3, stride=2 if halved else 1)
        rhs = Autonomous(*conv_bn_relu(width, width, 3))
        layers.append(models.ODEBlock(rhs, method=method, n_steps=n_steps, gradient=gradient))
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(dtype)


def step(network, images):
    network.zero_grad(set_to_none=True)
    network(images).square().mean().backward()


def evaluations(network, batches):
    """Number of evaluations of the right-hand sides in a step on each batch."""
    counts = []
    for block in models.ode_blocks(network):
        block.rhs.register_forward_pre_hook(lambda *_: counts.append(counts.pop() + 1))
    for images in batches:
        counts.append(0)
        step(network, images)
    return counts


def assert_same_gradients(network, reference, rtol=1e-13, atol=1e-18):
    for one, other in zip(network.parameters(), reference.parameters(), strict=True):
        assert float((one.grad - other.grad).norm()) <= rtol * float(other.grad.norm()) + atol


STAGES = st.lists(
    st.tuples(st.sampled_from([2, 4, 8, 16]), st.integers(1, 3), st.booleans()),
    min_size=1,
    max_size=3,
)


@given(stages=STAGES, method=st.sampled_from(["euler", "rk2", "rk4", "rk4_38"]))
@settings(max_examples=20)
def test_peak_is_no_higher_than_anodes_and_gradients_are_backprops(stages, method):
    images, peaks = torch.randn(4, 3, 16, 16), {}
    for gradient in ("anode", "anode-auto"):
        network = chain(stages, gradient, method=method)
        step(network, images)
        peaks[gradient] = peak_bytes(lambda n=network: step(n, images), CPU)
    assert peaks["anode-auto"] <= peaks["anode"]
    auto, reference = (
        chain(stages, g, method=method, dtype=torch.float64) for g in ("anode-auto", "backprop")
    )
    for _ in range(2):
        step(auto, images[:2].double())
        step(reference, images[:2].double())
    assert_same_gradients(auto, reference)
    assert all(map(torch.equal, auto.buffers(), reference.buffers()))


def test_network_with_a_single_block_runs_nothing_again():
    network = models.build("resnet4", method="rk2", n_steps=3, gradient="anode-auto")
    assert evaluations(network, [torch.randn(2, 3, 32, 32)] * 3) == [12, 6, 6]


def test_a_third_of_a_pyramids_evaluations_is_run_again_at_most():
    network = models.build("squeezenext", method="rk2", n_steps=8, gradient="anode-auto")
    first, second = evaluations(network, [torch.randn(4, 3, 32, 32)] * 2)
    assert first == 64 + 64
    assert second <= 64 + 64 / 3


def test_another_batch_gets_a_plan_of_its_own():
    network = models.build("resnet4", method="euler", n_steps=2, gradient="anode-auto")
    large, small = torch.randn(4, 3, 32, 32), torch.randn(2, 3, 32, 32)
    assert evaluations(network, [large, large, small, small, large]) == [4, 2, 4, 2, 2]


@pytest.mark.parametrize("divisor", [1, 2, 4])
def test_a_smaller_budget_is_kept_by_running_more_again(divisor):
    stages, images = [(16, 8, False), (16, 8, False)], torch.randn(4, 3, 16, 16)
    state = 4 * 16 * 16 * 16 * 4
    budget = 60 * state // divisor
    network, reference = chain(stages, f"anode-auto:budget={budget}"), chain(stages, "backprop")
    step(network, images)
    # Beside the blocks: the stem's values before the first block, and the weights' gradients.
    assert peak_bytes(lambda: step(network, images), CPU) <= budget + 4 * state
    assert evaluations(network, [images])[0] >= 16
    step(reference, images)
    assert_same_gradients(network, reference, 1e-3, 1e-6)


def test_budget_that_nothing_fits_into_is_refused_with_one_that_does():
    network = chain([(16, 4, False)], "anode-auto:budget=1000")
    with pytest.raises(ValueError, match="a budget of 1000 bytes is too small .* at least"):
        step(network, torch.randn(4, 3, 16, 16))


def test_networks_that_take_turns_inside_one_step_stay_exact():
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    stages, pairs = [(4, 3, False), (8, 2, True)], []
    for gradient in ("anode-auto", "backprop"):
        one = chain(stages, gradient, dtype=torch.float64)
        other = chain(stages[:1], gradient, dtype=torch.float64)
        for _ in range(3):
            one.zero_grad(), other.zero_grad()
            loss = one(images).square().mean() + other(images).square().mean()
            one(images)  # a pass whose graph is thrown away
            loss.backward()
        pairs.append(nn.ModuleList([one, other]))
    assert_same_gradients(*pairs)


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


@pytest.fixture
def stores(monkeypatch):
    """Call it: every block stores that number of its evaluations, and runs the others again."""
    return lambda stored: monkeypatch.setattr(
        planner, "plan", lambda sizes, budget: [BlockPlan(stored, None, 0) for _ in sizes]
    )


def passes(gradient, make, *, method="rk2", autocast=False, dtype=torch.float32):
    """z1, the gradients and the buffers after two passes, of which anode-auto measures one."""
    torch.manual_seed(0)
    rhs = make().to(dtype)
    block = models.ODEBlock(rhs, method=method, n_steps=2, gradient=gradient)
    for _ in range(2):
        torch.manual_seed(1)
        z0 = torch.randn(2, 4, 6, 6, dtype=dtype, requires_grad=True)
        rhs.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            z1 = block(z0)
        (z1.float() if autocast else z1).square().sum().backward()
    gradients = [p.grad for p in rhs.parameters() if p.grad is not None]
    return [z1.detach(), z0.grad, *gradients, *rhs.buffers()]


@pytest.mark.parametrize(
    ("activation", "dropout", "autocast"),
    [
        (nn.Tanh(), 0.0, False),
        (nn.ReLU(inplace=True), 0.0, False),
        (nn.Tanh(), 0.3, False),
        (nn.Tanh(), 0.0, True),
    ],
)
@pytest.mark.parametrize("method", ["euler", "rk2", "rk4"])
def test_block_that_is_run_again_has_backprops_gradient_bit_for_bit(
    stores, method, activation, dropout, autocast
):
    def make():
        layers = nn.Conv2d(4, 4, 3, padding=1), activation, nn.BatchNorm2d(4), nn.Dropout(dropout)
        return Autonomous(*layers)

    stores(0)
    found, expected = (
        passes(gradient, make, method=method, autocast=autocast)
        for gradient in (AnodeAuto(), "backprop")
    )
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("stored", [0, 1, 3, 4])
def test_right_hand_side_that_differentiates_inside_itself_keeps_its_gradient(stores, stored):
    stores(stored)
    found, expected = (
        passes(gradient, GradientFlow, dtype=torch.float64)
        for gradient in (AnodeAuto(), "backprop")
    )
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
    assert torch.equal(found[1], expected[1])


def test_layer_between_blocks_that_is_checkpointed_runs_twice():
    first, layer, _, _, second = chain([(4, 2, False)] * 2, "anode-auto")[3:8]
    ran = []
    layer.register_forward_pre_hook(lambda module, inputs: ran.append(module))
    z = checkpoint(layer, first(torch.randn(2, 4, 8, 8)), use_reentrant=False)
    second(z).sum().backward()
    assert len(ran) == 2


def test_memory_of_a_pass_is_freed_with_its_graph():
    network, images = chain([(4, 2, False)] * 2, "anode-auto"), torch.randn(2, 3, 16, 16)
    step(network, images)
    gc.disable()
    try:
        with _LiveBytes() as live:
            output = network(images)
            held = live.live
            del output
        assert live.live < held / 20  # BatchNorm's statistics
    finally:
        gc.enable()


def test_plans_do_not_keep_a_network_alive():
    network = chain([(4, 2, False)], "anode-auto")
    step(network, torch.randn(2, 3, 16, 16))
    weight = weakref.ref(network[3].rhs)
    del network
    gc.collect()
    assert weight() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copy_of_a_trained_network_has_the_same_gradient(copied):
    network, images = chain([(4, 2, False)], AnodeAuto()), torch.randn(2, 3, 8, 8)
    step(network, images)
    other = copied(network)
    step(other, images)
    assert_same_gradients(network, other, 0, 0)
