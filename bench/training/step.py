"""One training step, and the test of a network."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.data import evaluation_batches
from bench.training.forward_statistics import ForwardStatistics
from models import ode_blocks
from solvers.replay import buffers_put_back

TEST_BATCH = {"cpu": 256, "cuda": 1000}
"""Images in a test batch, by kind of device: small for a CPU's cache, large for a GPU."""


class TrainingStep:
    """The training step of a network, with its evaluations of the right-hand sides counted.

    evaluations: forward and backward, of all ODE blocks, in the last step that Python ran.
    statistics: a second set of BatchNorm statistics, updated in forward passes alone.
    """

    def __init__(
        self, network: nn.Module, optimizer: Optimizer, statistics: ForwardStatistics | None = None
    ) -> None:
        self.evaluations = (0, 0)
        self._count = 0
        self._statistics = statistics
        self._network = network
        self._optimizer = optimizer
        for block in ode_blocks(network):
            block.rhs.register_forward_pre_hook(self._add)

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        on_phase_end: Callable[[str], None] = lambda phase: None,
    ) -> tuple[Tensor, Tensor]:
        """Take a step; return mean loss and number of correct predictions, on the device.

        `on_phase_end` is called with "forward", "backward" and "optimizer" when that phase ends.
        """
        self._count = 0
        self._optimizer.zero_grad(set_to_none=True)
        if self._statistics:
            self._statistics.begin_forward()
        logits = self._network(images)
        loss = F.cross_entropy(logits, labels)
        on_phase_end("forward")
        if self._statistics:
            self._statistics.end_forward()
        forward = self._count

        loss.backward()
        on_phase_end("backward")
        if self._statistics:
            self._statistics.end_backward()
        self.evaluations = forward, self._count - forward

        self._optimizer.step()
        on_phase_end("optimizer")
        with torch.no_grad():
            return loss.detach(), (logits.argmax(1) == labels).sum()

    def _add(self, rhs: nn.Module, inputs: object) -> None:
        self._count += 1


def differentiate_once(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Run a forward and a backward pass that change no weight, gradient, buffer or random state."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), buffers_put_back(network), torch.enable_grad():
        loss = F.cross_entropy(network(images), labels)
        torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)


class Evaluation(NamedTuple):
    """Mean loss, accuracy, and which predictions are correct: bool (n,), on the device."""

    loss: float
    accuracy: float
    correct: Tensor


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    on_step_end: Callable[[], None] = lambda: None,
    batch_size: int | None = None,
) -> Evaluation:
    """Test uint8 images (n, 3, 32, 32) and labels (n,) in evaluation mode.

    `on_step_end` is called after every batch. batch_size: by default that of TEST_BATCH.
    """
    network.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    correct = []
    size = batch_size or TEST_BATCH[images.device.type]
    for batch, expected in evaluation_batches(images, labels, size):
        logits = network(batch)
        loss_sum += F.cross_entropy(logits, expected, reduction="sum").double()
        correct.append(logits.argmax(1) == expected)
        on_step_end()
    all_correct = torch.cat(correct)
    return Evaluation(
        float(loss_sum) / len(labels), int(all_correct.sum()) / len(labels), all_correct
    )
