"""Batches and captured steps on the meta device, which has no values.

There a host read, or a copy from the host, is an error, so that this finds without a GPU what a
capture on CUDA would fail at. Values computed from the time grid alone were read on the CPU before.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.data import DeviceData, train_batches
from bench.data.generated import load as load_generated
from bench.training.host_reads import RecordHostReads, ReplayHostReads
from bench.training.network import build_network, make_optimizer
from bench.training.step import TrainingStep
from solvers import GRADIENTS
from solvers.integrate import step_grid
from tests.bench.builders import CPU, experiment

META = torch.device("meta")
CAPTURABLE = [n for n, entry in GRADIENTS.items() if getattr(entry, "is_capturable", False)]
SETTLED = 2
"""Steps after which everything that is made once exists."""


class NoCopies(TorchDispatchMode):
    """Raises where tensors move between devices; keeps the names of operators, except views."""

    VIEWS = ("slice", "unsqueeze", "permute", "detach")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors}
        if len(devices) > 1:
            raise RuntimeError(f"{function} has tensors on {' and '.join(sorted(devices))}")
        name = function.overloadpacket.__name__
        self.names += [] if name in self.VIEWS else [name]
        return result


@pytest.fixture
def autocast_of_cuda(monkeypatch):
    """The meta device has no autocast: it is asked of CUDA's, which is off."""
    for name in ("is_autocast_enabled", "get_autocast_dtype"):
        ask = getattr(torch, name)
        monkeypatch.setattr(
            *(torch, name),
            lambda *kind, ask=ask: ask(*("cuda" if k == "meta" else k for k in kind)),
        )
    autocast = torch.autocast
    monkeypatch.setattr(
        *(torch, "autocast"),
        lambda kind, **how: (
            autocast("cuda", enabled=False) if kind == "meta" else autocast(kind, **how)
        ),
    )
    step_grid.cache_clear()
    yield
    step_grid.cache_clear()


def training_on(device, gradient, network):
    """A training step of the experiment with its batch."""
    how = experiment(gradient=gradient, network=network, method="rk2", n_steps=3)
    trained = build_network(how, CPU).to(device)
    step = TrainingStep(trained, make_optimizer(trained, how))
    images = torch.zeros(8, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    return lambda: step(images, torch.zeros(8, dtype=torch.int64, device=device))


def reads_of_constants(gradient, network):
    """The host's reads in a step, recorded on the CPU."""
    step = training_on(CPU, gradient, network)
    for _ in range(SETTLED):
        with RecordHostReads(CPU) as recording:
            step()
    return recording.reads


@pytest.mark.parametrize("network", ["alexnet", "resnet10"])
@pytest.mark.parametrize("gradient", CAPTURABLE)
def test_captured_step_never_has_the_host_wait(gradient, network, autocast_of_cuda):
    reads = reads_of_constants(gradient, network)
    step = training_on(META, gradient, network)
    for _ in range(SETTLED):
        with ReplayHostReads(META, reads):
            step()
    with NoCopies(), ReplayHostReads(META, reads):
        loss, right = step()
    assert loss.device == right.device == META
    assert bool(reads) == getattr(GRADIENTS[gradient], "reads_constants", False)


def test_adaptive_steps_read_errors_which_is_why_they_are_not_captured():
    assert reads_of_constants("node-rk45", "resnet4") is None


def test_batch_is_one_gather_and_its_normalisation_without_the_host():
    data = DeviceData.of(load_generated(10).subset(80, 40), META)
    batches = train_batches(data, seed=0, epoch=1, batch_size=32)
    next(batches)  # which makes the epoch's plan
    with NoCopies() as operators:
        rest = [(images.shape, labels.shape) for images, labels in batches]
    assert rest == [((32, 3, 32, 32), (32,)), ((16, 3, 32, 32), (16,))]
    assert operators.names == ["index", "sub", "div_"] * 2


def test_a_copy_from_the_host_is_found():
    on_device = torch.empty(2, device=META)
    with NoCopies(), pytest.raises(RuntimeError, match="tensors on cpu and meta"):
        on_device.copy_(torch.zeros(2))
