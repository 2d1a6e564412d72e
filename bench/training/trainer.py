"""Train one experiment, epoch by epoch, from its start or from where it stopped."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from bench.data import DeviceData, evaluation_batches, train_batches
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.training import cuda_graph
from bench.training.clock import Stopwatch
from bench.training.cuda_graph import CapturedStep
from bench.training.forward_statistics import ForwardStatistics
from bench.training.step import (
    Evaluation,
    TrainingStep,
    build_network,
    differentiate_once,
    evaluate,
    make_optimizer,
    make_schedule,
)
from models import ode_blocks
from solvers import GRADIENTS
from solvers.proof import require_proofs

EpochFinished = Callable[[Experiment, EpochRow], None]

TestStatistics = Callable[
    [nn.Module, Evaluation, Mapping[str, Tensor] | None, int, Callable[[], None]],
    Mapping[str, Evaluation],
]
"""Tests a network with each kind of BatchNorm statistics: the method `measure` of
`bench.instruments.batchnorm.StatisticsTest`. Takes the network, its test with the running
statistics, those of forward passes alone (None: the same), the epoch, and what is called after
every batch."""


class DivergedError(Exception):
    """The training loss is not finite."""


@dataclass(frozen=True)
class Probe:
    """What is measured on the network between two epochs; None and () where nothing is."""

    gradient_error: float | None = None
    gradient_cosine: float | None = None
    gradient_error_blocks: tuple[float, ...] = ()
    gradient_cosine_blocks: tuple[float, ...] = ()


@dataclass(frozen=True)
class EpochSoFar:
    """What there is of an epoch that is not over: sums over its steps, and what they took.

    evaluations: of the right-hand sides in the last step that Python ran. seconds: since the epoch
    began, step_seconds: of its steps alone.
    """

    epoch: int = 1
    steps: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    evaluations: tuple[int, int] = (0, 0)
    step_seconds: float = 0.0
    seconds: float = 0.0


class Trainer:
    """An experiment's network, optimiser and schedule, and how far its training is.

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
        self._statistics = ForwardStatistics(self.network)
        self._step = TrainingStep(self.network, self.optimizer, self._statistics)
        self.correct: Mapping[str, Tensor] = {}
        obstacle = cuda_graph.obstacle(self.network, device)
        self._eager_because = obstacle or ("--eager" if eager else None)
        self._captured: CapturedStep | None = None
        if self._eager_because is None:
            self._captured = CapturedStep(
                self._step,
                self.optimizer,
                reads_constants=cuda_graph.reads_constants(self.network),
            )
        self._begin(EpochSoFar())

    @property
    def execution(self) -> str:
        """How steps are run: "eager", "captured", or "eager: " and why they are not captured."""
        reason = self._captured.reason if self._captured else self._eager_because
        return "captured" if reason is None else f"eager: {reason}"

    @property
    def so_far(self) -> EpochSoFar:
        """Of the epoch that is next to go on with."""
        return EpochSoFar(
            epoch=self._epoch_number,
            steps=self._steps,
            loss_sum=float(self._loss_sum),
            correct=int(self._correct),
            evaluations=self._step.evaluations,
            step_seconds=self._step_seconds + self._stopwatch.seconds(),
            seconds=self._now() - self._started,
        )

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, between two steps or epochs: tensors and
        plain values. The tensors are those of the training, so to be written before the next step.
        """
        schedule = self.schedule.state_dict()
        del schedule["milestones"]  # the experiment's, and no plain value
        return {
            "network": self._tensors(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": schedule,
            "random": torch.get_rng_state(),
            "device_random": (
                torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
            ),
            "forward_statistics": self._statistics.tensors,
            "correct": dict(self.correct),
            "so_far": asdict(self.so_far),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another trainer of the same experiment was when it gave its `state`.

        Sets the random state of the process, too. Raises ValueError, KeyError or TypeError where
        it is not the state of such a trainer.
        """
        own, given = self._tensors(), state["network"]
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in given.items()}:
            raise ValueError("the tensors are those of another network")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(given[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # Else the schedule warns where its next step comes before the optimiser's.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
        torch.set_rng_state(state["random"])
        if state["device_random"] is not None:
            torch.cuda.set_rng_state(state["device_random"], self._device)
        self._statistics.restore(state["forward_statistics"])
        self.correct = state["correct"]
        self._begin(EpochSoFar(**state["so_far"]))

    def epochs(
        self,
        data: DeviceData,
        probe: Callable[[nn.Module], Probe],
        test_statistics: TestStatistics = lambda *_: {},
        between: Callable[[], None] = lambda: None,
    ) -> Iterator[EpochRow]:
        """Trains and yields what is observed, epoch by epoch.

        probe is called after each epoch with the network in training mode and must leave no trace
        in it, and so must test_statistics. between is called after every step and after every
        batch of a test; there `state` can be taken, and what it raises ends the training. Its time,
        and what passes before the next epoch is asked for, is in `train_seconds`. Raises
        DivergedError after an epoch whose training loss is not finite.
        """
        self._show_batch_sizes(data, probe)
        self._started = self._now() - self._seconds_before
        while self._epoch_number <= self._experiment.num_epochs:
            row = self._epoch(data, probe, test_statistics, between)
            self._begin(EpochSoFar(row.epoch + 1))
            yield row

    def _begin(self, so_far: EpochSoFar) -> None:
        self._epoch_number = so_far.epoch
        self._steps = so_far.steps
        self._loss_sum = torch.tensor(so_far.loss_sum, dtype=torch.float64, device=self._device)
        self._correct = torch.tensor(so_far.correct, dtype=torch.int64, device=self._device)
        self._step.evaluations = so_far.evaluations
        self._step_seconds = so_far.step_seconds
        self._stopwatch = Stopwatch(self._device)
        self._seconds_before = so_far.seconds
        self._started = self._now() - so_far.seconds

    def _epoch(
        self,
        data: DeviceData,
        probe: Callable[[nn.Module], Probe],
        test_statistics: TestStatistics,
        between: Callable[[], None],
    ) -> EpochRow:
        learning_rate = float(self.schedule.get_last_lr()[0])
        self.network.train()
        self._train(data, between)
        so_far = self.so_far
        require_proofs(self._device)  # the host has just waited for the loss
        trained = self._now()
        count = len(data.train_labels)
        train_loss = so_far.loss_sum / count
        if not math.isfinite(train_loss):
            raise DivergedError(f"the training loss became {train_loss} in epoch {so_far.epoch}")
        running = evaluate(self.network, data.test_images, data.test_labels, between)
        tested = self._now()
        self.network.train()
        found = probe(self.network)
        probed = self._now()
        others = test_statistics(
            self.network, running, self._statistics.tensors, so_far.epoch, between
        )
        if so_far.epoch == self._experiment.num_epochs:
            tests = {"running": running, **others}
            self.correct = {kind: test.correct.cpu() for kind, test in tests.items()}
        self.schedule.step()
        forward, backward = so_far.evaluations
        return EpochRow(
            epoch=so_far.epoch,
            learning_rate=learning_rate,
            train_loss=train_loss,
            train_accuracy=so_far.correct / count,
            test_loss=running.loss,
            test_accuracy=running.accuracy,
            nfe_forward=forward,
            nfe_backward=backward,
            gradient_error=found.gradient_error,
            gradient_cosine=found.gradient_cosine,
            gradient_error_blocks=found.gradient_error_blocks,
            gradient_cosine_blocks=found.gradient_cosine_blocks,
            seconds_per_step=so_far.step_seconds / so_far.steps,
            train_seconds=so_far.seconds,
            test_seconds=tested - trained,
            probe_seconds=probed - tested,
            statistics_seconds=self._now() - probed,
            **{f"test_loss_{kind}": test.loss for kind, test in others.items()},
            **{f"test_accuracy_{kind}": test.accuracy for kind, test in others.items()},
        )

    def _train(self, data: DeviceData, between: Callable[[], None]) -> None:
        """The steps that are left of the epoch."""
        step = self._captured or self._step
        experiment = self._experiment
        batches = train_batches(
            data, seed=experiment.seed, epoch=self._epoch_number, batch_size=experiment.batch_size
        )
        for images, labels in islice(batches, self._steps, None):
            with self._stopwatch:
                loss, right = step(images, labels)
            # On the device: reading the loss at every step would make the device wait.
            self._loss_sum += loss.double() * len(labels)
            self._correct += right
            self._steps += 1
            between()

    def _show_batch_sizes(self, data: DeviceData, probe: Callable[[nn.Module], Probe]) -> None:
        """A pass that leaves no trace for every batch size that there will be, where the gradient
        method learns from the first.

        What it learns is not in a checkpoint, and without this, the first pass after going on
        would be another one than it is in a training that never stopped.
        """
        if not any(
            getattr(GRADIENTS.resolve(block.gradient), "learns_from_first_pass", False)
            for block in ode_blocks(self.network)
        ):
            return
        self.network.train()
        count, size = len(data.train_labels), self._experiment.batch_size
        for batch_size in {min(count, size), count % size} - {0}:
            images, labels = next(
                evaluation_batches(data.train_images, data.train_labels, batch_size)
            )
            differentiate_once(self.network, images, labels)
        probe(self.network)

    def _tensors(self) -> dict[str, Tensor]:
        """Every weight and buffer, in place."""
        return dict(chain(self.network.named_parameters(), self.network.named_buffers()))

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
