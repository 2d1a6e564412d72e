"""anode-auto: exact, within its budget, and no step run again that need not be."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

import models
from bench.instruments.memory import _LiveBytes, peak_bytes
from bench.training.step import EvaluationCounter
from models.layers import Autonomous, conv_bn_relu
from solvers.gradients.anode_auto.method import AnodeAuto

CPU = torch.device("cpu")


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


def gradients(network):
    return [parameter.grad.clone() for parameter in network.parameters()]


STAGES = st.lists(
    st.tuples(st.sampled_from([2, 4, 8, 16]), st.integers(1, 3), st.booleans()),
    min_size=1,
    max_size=3,
)


@given(stages=STAGES, method=st.sampled_from(["euler", "rk2", "rk4", "rk4_38"]))
@hypothesis_settings(max_examples=40)
def test_peak_is_no_higher_than_anodes_over_random_shapes(stages, method):
    images = torch.randn(4, 3, 16, 16)
    peaks = {}
    for gradient in ("anode", "anode-auto"):
        network = chain(stages, gradient, method=method)
        step(network, images)
        peaks[gradient] = peak_bytes(lambda n=network: step(n, images), CPU)
    assert peaks["anode-auto"] <= peaks["anode"]


@given(stages=STAGES, method=st.sampled_from(["euler", "rk2", "rk4", "rk4_38"]))
@hypothesis_settings(max_examples=30)
def test_gradients_are_backprops_up_to_summation(stages, method):
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    auto = chain(stages, "anode-auto", method=method, dtype=torch.float64)
    reference = chain(stages, "backprop", method=method, dtype=torch.float64)
    for _ in range(2):
        step(auto, images)
        step(reference, images)
    for one, other in zip(gradients(auto), gradients(reference), strict=True):
        assert float((one - other).norm()) <= 1e-13 * float(other.norm()) + 1e-18
    for one, other in zip(auto.buffers(), reference.buffers(), strict=True):
        assert torch.equal(one, other)


def test_network_with_a_single_block_runs_nothing_again():
    network = models.build("resnet4", method="rk2", n_steps=3, gradient="anode-auto")
    counter, images = EvaluationCounter(network), torch.randn(2, 3, 32, 32)
    counts = []
    for _ in range(3):
        step(network, images)
        counts.append(counter.take())
    assert counts == [12, 6, 6]


def test_a_third_of_a_pyramids_evaluations_is_run_again_at_most():
    network = models.build("squeezenext", method="rk2", n_steps=8, gradient="anode-auto")
    counter, images = EvaluationCounter(network), torch.randn(8, 3, 32, 32)
    step(network, images)
    assert counter.take() == 64 + 64
    step(network, images)
    assert counter.take() <= 64 + 64 / 3


def test_another_batch_gets_a_plan_of_its_own():
    network = models.build("resnet4", method="euler", n_steps=2, gradient="anode-auto")
    counter = EvaluationCounter(network)
    large, small = torch.randn(4, 3, 32, 32), torch.randn(2, 3, 32, 32)
    counts = []
    for images in (large, large, small, small, large):
        step(network, images)
        counts.append(counter.take())
    assert counts == [4, 2, 4, 2, 2]


@pytest.mark.parametrize("divisor", [1, 2, 4])
def test_a_smaller_budget_is_kept_by_running_more_again(divisor):
    stages = [(16, 8, False), (16, 8, False)]
    images = torch.randn(4, 3, 16, 16)
    state = 4 * 16 * 16 * 16 * 4
    budget = 60 * state // divisor
    network = chain(stages, f"anode-auto:budget={budget}")
    counter = EvaluationCounter(network)
    step(network, images)
    counter.take()
    peak = peak_bytes(lambda: step(network, images), CPU)
    # Beside the blocks: the stem's values before the first block, and the weights' gradients.
    assert peak <= budget + 4 * state
    evaluations = counter.take()
    assert evaluations >= 16
    reference = chain(stages, "backprop")
    step(reference, images)
    step(reference, images)
    for one, other in zip(gradients(network), gradients(reference), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_budget_that_nothing_fits_into_is_refused_with_one_that_does():
    network = chain([(16, 4, False)], "anode-auto:budget=1000")
    with pytest.raises(ValueError, match="a budget of 1000 bytes is too small .* at least"):
        step(network, torch.randn(4, 3, 16, 16))


def test_networks_that_take_turns_inside_one_step_stay_exact():
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    stages = [(4, 3, False), (8, 2, True)]
    found = {}
    for gradient in ("anode-auto", "backprop"):
        one = chain(stages, gradient, dtype=torch.float64)
        other = chain(stages[:1], gradient, dtype=torch.float64)
        for _ in range(3):
            one.zero_grad(), other.zero_grad()
            loss = one(images).square().mean() + other(images).square().mean()
            one(images)  # a pass whose graph is thrown away
            loss.backward()
        found[gradient] = [*gradients(one), *gradients(other)]
    for ours, reference in zip(*found.values(), strict=True):
        assert float((ours - reference).norm()) <= 1e-13 * float(reference.norm()) + 1e-18


def test_memory_of_a_pass_is_let_go_with_its_graph():
    network = chain([(4, 2, False), (4, 2, False)], "anode-auto")
    images = torch.randn(2, 3, 16, 16)
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


def test_network_is_not_kept_alive_by_what_is_remembered_of_it():
    network = chain([(4, 2, False)], "anode-auto")
    step(network, torch.randn(2, 3, 16, 16))
    weight = weakref.ref(network[3].rhs)
    del network
    gc.collect()
    assert weight() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copied_network_has_its_gradient(copied):
    """Of one that has trained already, with the method as an object."""
    network = chain([(4, 2, False)], AnodeAuto())
    images = torch.randn(2, 3, 8, 8)
    step(network, images)
    other = copied(network)
    step(other, images)
    for mine, its in zip(gradients(network), gradients(other), strict=True):
        assert torch.equal(mine, its)
