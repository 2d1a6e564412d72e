"""Captured steps: which steps are captured, when, and that they train as eager ones do."""

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
from solvers import GRADIENTS
from tests.bench.builders import CPU, experiment

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
needs_schedules = pytest.mark.skipif(
    find_spec("checkpoint_schedules") is None, reason="needs checkpoint-schedules"
)
CUDA = torch.device("cuda", 0)
READERS = ["node", "node-grid", "node-frozen", "node-grid-frozen", "backprop-torchdiffeq"]
"""Gradient methods with which the host reads values computed from the time grid."""


class Replayed:
    """Replaces a CUDA graph: runs the computation again and writes the result in its place."""

    def __init__(self):
        self.captures = 0

    def __call__(self, compute):
        self.captures += 1
        result = torch.zeros(()), torch.zeros((), dtype=torch.int64)

        def repeat():
            for place, value in zip(result, compute(), strict=True):
                place.copy_(value)

        return repeat, result


def batch(size, device=CPU, seed=0):
    images = torch.randn(size, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return images.to(device), (torch.arange(size) % 10).to(device)


def stepped(capture=None, sizes=(8,) * 7, *, lr_change=None, device=CPU, **changes):
    """Train on batches of these sizes; return losses, weights and buffers, and the step."""
    how = experiment(**changes)
    network = build_network(how, device)
    optimizer = make_optimizer(network, how)
    step = TrainingStep(network, optimizer)
    if capture:
        reads = reads_constants(network)
        step = CapturedStep(step, optimizer, capture, reads_constants=reads)
    losses = []
    for i, size in enumerate(sizes):
        if i == lr_change:
            optimizer.param_groups[0]["lr"] /= 10
        losses.append(float(step(*batch(size, device, i))[0]))
    return losses, [*network.parameters(), *network.buffers()], step


def assert_captured_trains_as_eager_does(capture, *how, **changes):
    losses, tensors, step = stepped(capture, *how, **changes)
    assert step.reason is None
    expected_losses, expected, _ = stepped(None, *how, **changes)
    assert losses == expected_losses
    assert all(map(torch.equal, tensors, expected))


@pytest.mark.parametrize("gradient", ["anode-auto", "node", "node-grid", "backprop-torchdiffeq"])
def test_captured_steps_train_as_eager_ones_do(gradient):
    sizes = [4] * 7 + [2]  # with a smaller last batch
    assert_captured_trains_as_eager_does(Replayed(), sizes, lr_change=5, gradient=gradient)


def test_step_is_captured_once_and_again_when_the_learning_rate_changes():
    once, twice = Replayed(), Replayed()
    stepped(once, [4] * (EAGER_STEPS + 4))
    stepped(twice, [4] * (EAGER_STEPS + 4), lr_change=EAGER_STEPS + 2)
    assert (once.captures, twice.captures) == (1, 2)


def test_step_is_captured_for_the_larger_batches_whichever_comes_first():
    """Four batches an epoch: the first that could be captured is the small last one."""
    capture = Replayed()
    _, _, step = stepped(capture, [8] * EAGER_STEPS + [3] + [8, 8, 8, 3, 8])
    assert capture.captures == 2
    assert len(step._captured.images) == 8


def test_graph_is_gone_before_the_next_is_recorded():
    graphs, alive = [], []

    class Graph:
        def __call__(self):
            pass

    def capture(compute):
        alive.append([one for one in graphs if one() is not None])
        graph = Graph()
        graphs.append(weakref.ref(graph))
        return graph, compute()

    stepped(capture, [4] * EAGER_STEPS + [4, 8, 16])
    assert alive == [[], [], []]


def failing(error):
    def capture(compute):
        raise error

    return capture


def test_capture_that_fails_leaves_eager_steps_and_the_reason():
    said = "operation not permitted when stream is capturing"
    losses, _, step = stepped(failing(RuntimeError(f"{said}\nand more")))
    assert step.reason == f"the capture failed: {said}"
    assert losses == stepped()[0]
    with pytest.raises(torch.OutOfMemoryError):
        stepped(failing(torch.OutOfMemoryError("CUDA out of memory")))


def test_step_that_draws_random_numbers_on_the_host_stays_eager():
    weight = torch.ones(2, requires_grad=True)

    def step(images, labels):
        return weight.detach().sum() * float(torch.rand(())), labels.sum()

    captured = CapturedStep(step, torch.optim.SGD([weight], lr=0.1), Replayed())
    captured(torch.ones(2), torch.ones(2))
    assert captured.reason == "the step draws random numbers"


class Mine:
    name = "mine"

    def solve(self, rhs, z0, method, n_steps):
        return z0


@pytest.mark.parametrize("gradient", [*sorted(GRADIENTS), Mine()])
def test_all_but_adaptive_and_unknown_methods_are_captured_on_cuda(gradient):
    network = models.build("resnet4", method="rk2", n_steps=2, gradient=gradient)
    assert reads_constants(network) == (gradient in READERS)
    found, name = obstacle(network, CUDA), getattr(gradient, "name", gradient)
    assert name in found if "rk45" in name or name == "mine" else found is None
    if found is None:
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
    how = {"gradient": gradient, "network": "resnet10", "precision": precision, "device": CUDA}
    assert_captured_trains_as_eager_does(capture_graph, [8] * 9 + [3], lr_change=7, **how)


@needs_cuda
def test_capture_that_fails_on_cuda_says_why_and_the_next_one_works():
    on_device = torch.zeros(2, device=CUDA)
    with pytest.raises(RuntimeError, match="captur"):
        capture_graph(lambda: (on_device + float(on_device.sum()), on_device))
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    repeat, (result, _) = capture_graph(lambda: (on_device + 1, on_device))
    repeat()
    assert result.tolist() == [1, 1]
    torch.cuda.empty_cache()


@needs_cuda
def test_step_that_draws_random_numbers_on_cuda_stays_eager():
    layers = torch.nn.Flatten(), torch.nn.Linear(3072, 10), torch.nn.Dropout()
    network = torch.nn.Sequential(*layers).to(CUDA)
    optimizer = make_optimizer(network, experiment())
    step = CapturedStep(TrainingStep(network, optimizer), optimizer)
    for i in range(EAGER_STEPS + 2):
        step(*batch(8, CUDA, i))
    assert step.reason == "the step draws random numbers"
