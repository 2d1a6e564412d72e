"""Train one experiment by the published protocol."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

import models
from bench.data import DeviceData, evaluation_batches, train_batches
from bench.experiment import LR_DROP, MOMENTUM, WEIGHT_DECAY, Experiment
from bench.nfe import EvaluationCounter
from bench.records import EpochRow

EVALUATION_BATCH = 256


class DivergedError(Exception):
    """The training loss is not finite."""


@dataclass(frozen=True)
class Probe:
    """What is measured on the network between two epochs; None and () where nothing is."""

    gradient_error: float | None = None
    gradient_cosine: float | None = None
    gradient_error_blocks: tuple[float, ...] = ()
    gradient_cosine_blocks: tuple[float, ...] = ()


def build_network(experiment: Experiment, device: torch.device) -> nn.Module:
    """The experiment's network with the initial weights of its seed, the same on every device.

    Channels-last on every device, the faster layout. The random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        network = models.build(
            experiment.network,
            method=experiment.method,
            n_steps=experiment.n_steps,
            gradient=experiment.gradient,
            num_classes=experiment.num_classes,
        )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device)


def make_optimizer(network: nn.Module, experiment: Experiment) -> Optimizer:
    """The published optimiser: SGD with momentum and weight decay."""
    return SGD(network.parameters(), lr=experiment.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


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


def train(
    network: nn.Module,
    experiment: Experiment,
    data: DeviceData,
    probe: Callable[[nn.Module], Probe],
) -> Iterator[EpochRow]:
    """Trains and yields what is observed, epoch by epoch.

    probe is called after each epoch with the network in training mode and must leave no trace in
    it. Raises DivergedError after an epoch whose training loss is not finite.
    """
    optimizer = make_optimizer(network, experiment)
    schedule = make_schedule(optimizer, experiment)
    counter = EvaluationCounter(network)
    device = data.train_images.device
    for epoch in range(1, experiment.num_epochs + 1):
        learning_rate = float(schedule.get_last_lr()[0])
        network.train()
        started = _now(device)
        loss_sum, correct, steps, evaluations = _epoch(
            network, optimizer, experiment, data, epoch, counter
        )
        trained = _now(device)
        count = len(data.train_images)
        train_loss = float(loss_sum) / count
        if not math.isfinite(train_loss):
            raise DivergedError(f"the training loss became {train_loss} in epoch {epoch}")
        schedule.step()
        test_loss, test_accuracy = evaluate(network, data.test_images, data.test_labels)
        tested = _now(device)
        network.train()
        found = probe(network)
        yield EpochRow(
            epoch=epoch,
            learning_rate=learning_rate,
            train_loss=train_loss,
            train_accuracy=int(correct) / count,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            nfe_forward=evaluations[0],
            nfe_backward=evaluations[1],
            gradient_error=found.gradient_error,
            gradient_cosine=found.gradient_cosine,
            gradient_error_blocks=found.gradient_error_blocks,
            gradient_cosine_blocks=found.gradient_cosine_blocks,
            seconds_per_step=(trained - started) / steps,
            train_seconds=trained - started,
            test_seconds=tested - trained,
            probe_seconds=_now(device) - tested,
        )


def _epoch(
    network: nn.Module,
    optimizer: Optimizer,
    experiment: Experiment,
    data: DeviceData,
    epoch: int,
    counter: EvaluationCounter,
) -> tuple[Tensor, Tensor, int, tuple[int, int]]:
    """Summed loss, number right, number of steps, and evaluations in the last step: forward and
    backward."""
    device = data.train_images.device
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    steps, forward, backward = 0, 0, 0

    def count_forward(phase: str) -> None:
        nonlocal forward
        if phase == "forward":
            forward = counter.take()

    for images, labels in train_batches(
        data, seed=experiment.seed, epoch=epoch, batch_size=experiment.batch_size
    ):
        counter.take()
        loss, right = training_step(network, optimizer, images, labels, count_forward)
        backward = counter.take()
        # On the device: reading the loss at every step would make the device wait.
        loss_sum += loss.double() * len(labels)
        correct += right
        steps += 1
    return loss_sum, correct, steps, (forward, backward)


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy in evaluation mode."""
    network.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for batch, expected in evaluation_batches(images, labels, EVALUATION_BATCH):
        logits = network(batch)
        loss_sum += F.cross_entropy(logits, expected, reduction="sum").double()
        correct += (logits.argmax(1) == expected).sum()
    return float(loss_sum) / len(labels), int(correct) / len(labels)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
