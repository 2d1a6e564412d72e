"""The training of the published protocol: network, optimiser, schedule, a step, and the test."""

import random
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

import models
from bench.data import evaluation_batches
from bench.experiment import LR_DROP, MOMENTUM, WEIGHT_DECAY, Experiment
from bench.layout import layout_of, put_into
from bench.plugins import state_kept
from bench.precision import InBfloat16
from bench.training.evaluations import EvaluationCounter
from bench.training.forward_statistics import ForwardStatistics
from solvers.replay import buffers_put_back

EVALUATION_BATCH = {"cpu": 256, "cuda": 1000}
"""Images, by kind of device: as many as its cache likes, or as are worth a kernel."""


def build_network(
    experiment: Experiment, device: torch.device, layout: str | None = None
) -> nn.Module:
    """The experiment's network with the initial weights of its seed, the same on every device.

    In the experiment's precision, and in the layout that is the device's, or another of
    `layout.MEMORY_FORMATS`. The random state is left as it was.
    """
    with state_kept():  # a network of the user's own may set what it likes, for itself
        torch.manual_seed(experiment.seed)
        random.seed(experiment.seed)
        np.random.seed(experiment.seed)
        network = models.build(
            experiment.network,
            method=experiment.method,
            n_steps=experiment.n_steps,
            gradient=experiment.gradient,
            num_classes=experiment.num_classes,
        )
    put_into(network, layout or layout_of(device))
    network.to(device)
    return InBfloat16(network, device) if experiment.precision == "bfloat16" else network


def make_optimizer(network: nn.Module, experiment: Experiment) -> Optimizer:
    """The published optimiser: SGD with momentum and weight decay; one kernel on CUDA."""
    parameters = list(network.parameters())
    return SGD(
        parameters,
        lr=experiment.lr,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        fused=True if parameters[0].device.type == "cuda" else None,
    )


def make_schedule(optimizer: Optimizer, experiment: Experiment) -> MultiStepLR:
    """The published schedule, stepped once after each epoch."""
    return MultiStepLR(optimizer, milestones=list(experiment.lr_drops), gamma=LR_DROP)


def training_step(
    network: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    passed: Callable[[str], None] = lambda phase: None,
) -> tuple[Tensor, Tensor]:
    """One step on one batch: (mean loss, number classified rightly), on the device.

    `passed` is called with "forward", "backward" and "optimizer" when these are over.
    """
    optimizer.zero_grad(set_to_none=True)
    logits = network(images)
    loss = F.cross_entropy(logits, labels)
    passed("forward")
    loss.backward()
    passed("backward")
    optimizer.step()
    passed("optimizer")
    with torch.no_grad():
        return loss.detach(), (logits.argmax(1) == labels).sum()


class TrainingStep:
    """The training step of a network.

    evaluations: of the right-hand sides in the last step that Python ran, forward and backward.
    statistics: a second set of BatchNorm's statistics that is to follow the forward passes.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        statistics: ForwardStatistics | None = None,
    ) -> None:
        self.evaluations = (0, 0)
        self._statistics = statistics
        self._network = network
        self._optimizer = optimizer
        self._counter = EvaluationCounter(network)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and number classified rightly, on the device."""
        forward, statistics = 0, self._statistics

        def observe_phase(phase: str) -> None:
            nonlocal forward
            if phase == "forward":
                forward = self._counter.take()
                if statistics:
                    statistics.end_forward()
            elif phase == "backward" and statistics:
                statistics.end_backward()

        self._counter.take()
        if statistics:
            statistics.begin_forward()
        result = training_step(self._network, self._optimizer, images, labels, observe_phase)
        self.evaluations = forward, self._counter.take()
        return result


def differentiate_once(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """A forward and a backward pass that leave no trace in weights, gradients, buffers or the
    random state."""
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
    between: Callable[[], None] = lambda: None,
    batch_size: int | None = None,
) -> Evaluation:
    """Test uint8 images (n, 3, 32, 32) and labels (n,) in evaluation mode.

    between is called after every batch. batch_size: by default that of EVALUATION_BATCH.
    """
    network.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    correct = []
    size = batch_size or EVALUATION_BATCH[images.device.type]
    for batch, expected in evaluation_batches(images, labels, size):
        logits = network(batch)
        loss_sum += F.cross_entropy(logits, expected, reduction="sum").double()
        correct.append(logits.argmax(1) == expected)
        between()
    all_correct = torch.cat(correct)
    return Evaluation(
        float(loss_sum) / len(labels), int(all_correct.sum()) / len(labels), all_correct
    )
