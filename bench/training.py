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
from bench import captured
from bench.captured import CapturedStep
from bench.clock import Stopwatch
from bench.data import DeviceData, evaluation_batches, train_batches
from bench.experiment import LR_DROP, MOMENTUM, WEIGHT_DECAY, Experiment
from bench.nfe import EvaluationCounter
from bench.precision import InBfloat16
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

    In the experiment's precision, and channels-last on every device, the faster layout. The random
    state is left as it was.
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
    """The training step of a network. evaluations: of the right-hand sides in the last step that
    Python ran, forward and backward."""

    def __init__(self, network: nn.Module, optimizer: Optimizer) -> None:
        self.evaluations = (0, 0)
        self._network = network
        self._optimizer = optimizer
        self._counter = EvaluationCounter(network)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and number classified rightly, on the device."""
        forward = 0

        def count_forward(phase: str) -> None:
            nonlocal forward
            if phase == "forward":
                forward = self._counter.take()

        self._counter.take()
        result = training_step(self._network, self._optimizer, images, labels, count_forward)
        self.evaluations = forward, self._counter.take()
        return result


class Trainer:
    """An experiment's network, optimiser and schedule, as they are between two epochs.

    eager: not to capture the training step as a CUDA graph where that is possible.
    """

    def __init__(
        self, experiment: Experiment, device: torch.device, *, eager: bool = False
    ) -> None:
        self.network = build_network(experiment, device)
        self.optimizer = make_optimizer(self.network, experiment)
        self.schedule = make_schedule(self.optimizer, experiment)
        self._experiment = experiment
        self._device = device
        self._step = TrainingStep(self.network, self.optimizer)
        obstacle = captured.obstacle(self.network, device)
        self._eager_because = obstacle or ("--eager" if eager else None)
        self._captured: CapturedStep | None = None
        if self._eager_because is None:
            self._captured = CapturedStep(self._step, self.optimizer)

    @property
    def execution(self) -> str:
        """How steps are run: "eager", "captured", or "eager: " and why they are not captured."""
        reason = self._captured.reason if self._captured else self._eager_because
        return "captured" if reason is None else f"eager: {reason}"

    def epochs(self, data: DeviceData, probe: Callable[[nn.Module], Probe]) -> Iterator[EpochRow]:
        """Trains and yields what is observed, epoch by epoch.

        probe is called after each epoch with the network in training mode and must leave no trace
        in it. Raises DivergedError after an epoch whose training loss is not finite.
        """
        for epoch in range(1, self._experiment.num_epochs + 1):
            yield self._epoch(epoch, data, probe)

    def _epoch(self, epoch: int, data: DeviceData, probe: Callable[[nn.Module], Probe]) -> EpochRow:
        learning_rate = float(self.schedule.get_last_lr()[0])
        self.network.train()
        started = self._now()
        stopwatch = Stopwatch(self._device)
        loss_sum, correct, steps = self._steps(epoch, data, stopwatch)
        trained = self._now()
        count = len(data.train_labels)
        train_loss = float(loss_sum) / count
        if not math.isfinite(train_loss):
            raise DivergedError(f"the training loss became {train_loss} in epoch {epoch}")
        self.schedule.step()
        test_loss, test_accuracy = evaluate(self.network, data.test_images, data.test_labels)
        tested = self._now()
        self.network.train()
        found = probe(self.network)
        forward, backward = self._step.evaluations
        return EpochRow(
            epoch=epoch,
            learning_rate=learning_rate,
            train_loss=train_loss,
            train_accuracy=int(correct) / count,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            nfe_forward=forward,
            nfe_backward=backward,
            gradient_error=found.gradient_error,
            gradient_cosine=found.gradient_cosine,
            gradient_error_blocks=found.gradient_error_blocks,
            gradient_cosine_blocks=found.gradient_cosine_blocks,
            seconds_per_step=stopwatch.seconds() / steps,
            train_seconds=trained - started,
            test_seconds=tested - trained,
            probe_seconds=self._now() - tested,
        )

    def _steps(
        self, epoch: int, data: DeviceData, stopwatch: Stopwatch
    ) -> tuple[Tensor, Tensor, int]:
        """An epoch's steps: summed loss, number right, number of steps."""
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        steps = 0
        step = self._captured or self._step
        experiment = self._experiment
        for images, labels in train_batches(
            data, seed=experiment.seed, epoch=epoch, batch_size=experiment.batch_size
        ):
            with stopwatch:
                loss, right = step(images, labels)
            # On the device: reading the loss at every step would make the device wait.
            loss_sum += loss.double() * len(labels)
            correct += right
            steps += 1
        return loss_sum, correct, steps

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


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
