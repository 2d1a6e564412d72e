"""Captured steps: which, when, and that they are the steps of the training."""

import weakref
from importlib.util import find_spec

import pytest
import torch

import models
from bench.training.cuda_graph import (
    EAGER_STEPS,
    CapturedStep,
    capture_graph,
    obstacle,
    reads_constants,
)
from bench.training.network import build_network, make_optimizer
from bench.training.step import TrainingStep
from models import ODEBlock
from solvers import GRADIENTS
from tests.bench.builders import CPU, experiment

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
needs_schedules = pytest.mark.skipif(
    find_spec("checkpoint_schedules") is None, reason="needs checkpoint-schedules"
)
CUDA = torch.device("cuda", 0)
READERS = ["node", "node-grid", "node-frozen", "node-grid-frozen", "backprop-torchdiffeq"]
"""Gradient methods that have the host read what is computed from the time grid."""


class Replayed:
    """Stands in for a CUDA graph: runs the computation anew and leaves the result in its place."""

    def __init__(self):
        self.captures = 0

    def __call__(self, compute):
        self.captures += 1
        result = torch.zeros(()), torch.zeros((), dtype=torch.int64)

        def repeat():
            for place, value in zip(result, compute(), strict=True):
                place.copy_(value)

        return repeat, result


def batches(count, *, size=8, last=None):
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        n = last if last and i == count - 1 else size
        yield torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10


def stepped(capture=None, *, count=7, lr_change=None, last=None, gradient="anode-auto"):
    """Losses and weights after some steps, and the step itself."""
    network = build_network(experiment(gradient=gradient, network="resnet10"), CPU)
    optimizer = make_optimizer(network, experiment())
    step = TrainingStep(network, optimizer)
    if capture:
        reads = reads_constants(network)
        step = CapturedStep(step, optimizer, capture, reads_constants=reads)
    losses = []
    for i, (images, labels) in enumerate(batches(count, last=last)):
        if i == lr_change:
            optimizer.param_groups[0]["lr"] /= 10
        losses.append(float(step(images, labels)[0]))
    return losses, [p.detach().clone() for p in network.parameters()], step


@pytest.mark.parametrize("gradient", ["anode-auto", *READERS])
@pytest.mark.parametrize(("lr_change", "last"), [(None, None), (5, None), (None, 3)])
def test_captured_steps_train_as_eager_ones_do(gradient, lr_change, last):
    changes = {"lr_change": lr_change, "last": last, "gradient": gradient}
    losses, weights, step = stepped(Replayed(), **changes)
    assert step.reason is None
    expected_losses, expected_weights, _ = stepped(**changes)
    assert losses == expected_losses
    for one, other in zip(weights, expected_weights, strict=True):
        assert torch.equal(one, other)


def test_step_is_captured_once_and_again_when_the_learning_rate_changes():
    once, twice = Replayed(), Replayed()
    stepped(once, count=EAGER_STEPS + 4)
    stepped(twice, count=EAGER_STEPS + 4, lr_change=EAGER_STEPS + 2)
    assert (once.captures, twice.captures) == (1, 2)


def sized_steps(sizes, capture):
    """Steps on batches of these sizes; returns the step, which counts what Python ran."""
    network = build_network(experiment(gradient="anode"), CPU)
    optimizer = make_optimizer(network, experiment())
    step = CapturedStep(TrainingStep(network, optimizer), optimizer, capture)
    for size in sizes:
        ((images, labels),) = batches(1, size=size)
        step(images, labels)
    return step


def test_step_is_captured_for_the_larger_batches_whichever_comes_first():
    """Four batches an epoch: the first that could be captured is the small last one."""
    capture = Replayed()
    step = sized_steps([8] * EAGER_STEPS + [3] + [8, 8, 8, 3, 8], capture)
    assert capture.captures == 2
    assert len(step._captured.images) == 8


def test_graph_is_gone_before_the_next_is_recorded():
    alive = []

    class Graph:
        def __call__(self):
            pass

    def capture(compute):
        alive.append([one for one in graphs if one() is not None])
        graph = Graph()
        graphs.append(weakref.ref(graph))
        return graph, compute()

    graphs: list[weakref.ref] = []
    sized_steps([4] * EAGER_STEPS + [4, 8, 16], capture)
    assert alive == [[], [], []]


def test_capture_that_fails_leaves_eager_steps_and_the_reason():
    def fails(compute):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    losses, _, step = stepped(fails)
    assert step.reason == "the capture failed: operation not permitted when stream is capturing"
    assert losses == stepped()[0]


def test_running_out_of_memory_in_a_capture_is_no_reason_to_go_on():
    def fails(compute):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        stepped(fails)


def test_step_that_draws_random_numbers_on_the_host_stays_eager():
    weight = torch.ones(2, requires_grad=True)

    def step(images, labels):
        return weight.detach().sum() * float(torch.rand(())), labels.sum()

    captured = CapturedStep(step, torch.optim.SGD([weight], lr=0.1), Replayed())
    captured(torch.ones(2), torch.ones(2))
    assert captured.reason == "the step draws random numbers"


@pytest.mark.parametrize("gradient", sorted(GRADIENTS))
def test_all_but_adaptive_steps_are_captured(gradient):
    network = models.build("resnet4", method="rk2", n_steps=2, gradient=gradient)
    found = obstacle(network, CUDA)
    assert reads_constants(network) == (gradient in READERS)
    if "rk45" in gradient:
        assert gradient in found
    else:
        assert found is None


def test_unknown_gradient_methods_are_not_captured():
    class Mine:
        name = "mine"

        def solve(self, rhs, z0, method, n_steps):
            return z0

    network = models.build("resnet4", method="rk2", n_steps=2, gradient="anode")
    for module in network.modules():
        if isinstance(module, ODEBlock):
            module.gradient = Mine()
    assert "mine" in obstacle(network, CUDA)
    assert obstacle(network, CPU) == "only CUDA has graphs"


@needs_cuda
@pytest.mark.parametrize(
    "gradient",
    [
        *("backprop", "anode", "anode-auto", "anode-steps", "reversible", *READERS),
        pytest.param("anode-revolve", marks=needs_schedules),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_captured_steps_on_cuda_train_as_eager_ones_do(gradient, precision):
    found = {}
    for name in ("eager", "captured"):
        how = experiment(gradient=gradient, network="resnet10", precision=precision)
        network = build_network(how, CUDA)
        optimizer = make_optimizer(network, how)
        step = TrainingStep(network, optimizer)
        if name == "captured":
            reads = reads_constants(network)
            step = CapturedStep(step, optimizer, capture_graph, reads_constants=reads)
        for i, (images, labels) in enumerate(batches(10, last=3)):
            if i == 7:  # captured again
                optimizer.param_groups[0]["lr"] /= 10
            step(images.to(CUDA), labels.to(CUDA))
        found[name] = [*network.parameters(), *network.buffers()]
        if name == "captured":
            assert step.reason is None
    for one, other in zip(found["eager"], found["captured"], strict=True):
        assert torch.equal(one, other)


@needs_cuda
def test_capture_that_fails_on_cuda_says_why_and_the_next_one_works():
    on_device = torch.zeros(2, device=CUDA)

    def reads_a_value():
        return on_device + float(on_device.sum()), on_device

    with pytest.raises(RuntimeError, match="captur"):
        capture_graph(reads_a_value)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    repeat, (result, _) = capture_graph(lambda: (on_device + 1, on_device))
    repeat()
    assert result.tolist() == [1, 1]
    torch.cuda.empty_cache()


@needs_cuda
def test_step_that_draws_random_numbers_on_cuda_stays_eager():
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(3072, 10), torch.nn.Dropout()
    ).to(CUDA)
    optimizer = make_optimizer(network, experiment())
    step = CapturedStep(TrainingStep(network, optimizer), optimizer)
    for images, labels in batches(EAGER_STEPS + 2):
        step(images.to(CUDA), labels.to(CUDA))
    assert step.reason == "the step draws random numbers"
