"""Train one experiment, epoch by epoch, from its start or from a checkpoint."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from bench.data import DeviceData, evaluation_batches, train_batches
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.training import cuda_graph
from bench.training.checkpoint import RunState
from bench.training.clock import Stopwatch
from bench.training.cuda_graph import CapturedStep
from bench.training.forward_statistics import ForwardStatistics
from bench.training.network import build_network, make_optimizer, make_schedule, tensors_of
from bench.training.step import Evaluation, TrainingStep, differentiate_once, evaluate
from models import ode_blocks
from solvers import GRADIENTS
from solvers.proof import require_proofs

TestStatistics = Callable[
    [nn.Module, Evaluation, Mapping[str, Tensor] | None, int, Callable[[], None]],
    Mapping[str, Evaluation],
]
"""Tests a network with each kind of BatchNorm statistics: `StatisticsTest.measure` of
bench/instruments/batchnorm.py. Takes the network, its test with the running statistics, the forward
statistics (None: equal to the running ones), the epoch, and on_step_end."""


class DivergedError(Exception):
    """The training loss is not finite."""


@dataclass(frozen=True)
class Probe:
    """Columns of EpochRow that are measured on the network after an epoch."""

    gradient_error: float | None = None
    gradient_cosine: float | None = None
    gradient_error_blocks: tuple[float, ...] = ()
    gradient_cosine_blocks: tuple[float, ...] = ()


class Trainer:
    """Trains an experiment from `state`: a new one, or one read from a checkpoint.

    Restoring also sets the random state of the process. Raises ValueError, KeyError, TypeError,
    AttributeError or RuntimeError if the state is not one of this experiment. eager: never capture
    the training step as a CUDA graph.
    """

    def __init__(
        self,
        experiment: Experiment,
        device: torch.device,
        state: RunState | None = None,
        *,
        eager: bool = False,
    ) -> None:
        self.state = state or RunState()
        self.network = build_network(experiment, device)
        self.optimizer = make_optimizer(self.network, experiment)
        self.schedule = make_schedule(self.optimizer, experiment)
        self._experiment = experiment
        self._device = device
        self._statistics = ForwardStatistics(self.network)
        self._step = TrainingStep(self.network, self.optimizer, self._statistics)
        self._captured: CapturedStep | None = None
        obstacle = cuda_graph.obstacle(self.network, device)
        self._eager_because = obstacle or ("--eager" if eager else None)
        if self._eager_because is None:
            self._captured = CapturedStep(
                self._step, self.optimizer, reads_constants=cuda_graph.reads_constants(self.network)
            )
        self._step_clock = Stopwatch(device)
        self._epoch_clock = self._now()
        self.state.loss_sum = self.state.loss_sum.to(device)
        self.state.n_correct = self.state.n_correct.to(device)
        if self.state.network is not None:
            self._restore()

    @property
    def execution(self) -> str:
        """Execution of the steps: "captured", or "eager: " and the reason."""
        reason = self._captured.reason if self._captured else self._eager_because
        return "captured" if reason is None else f"eager: {reason}"

    def epochs(
        self,
        data: DeviceData,
        probe: Callable[[nn.Module], Probe],
        test_statistics: TestStatistics = lambda *_: {},
        on_step_end: Callable[[], None] = lambda: None,
    ) -> Iterator[EpochRow]:
        """Train; yield the row of each epoch, which is then in `state.rows` as well.

        probe is called after each epoch with the network in training mode. Neither it nor
        test_statistics may change the network. on_step_end is called after every step and every
        batch of a test: it may call `snapshot`, and its time counts in `train_seconds`. Raises
        DivergedError after an epoch whose training loss is not finite.
        """
        state, experiment, network = self.state, self._experiment, self.network
        self._show_batch_sizes(data, probe)
        self._epoch_clock = self._now()
        while state.epoch <= experiment.num_epochs:
            learning_rate = float(self.schedule.get_last_lr()[0])
            network.train()
            self._train(data, on_step_end)

            trained = self._count_epoch_seconds()
            n_images = len(data.train_labels)
            train_loss = float(state.loss_sum) / n_images
            require_proofs(self._device)  # the host has just waited for the loss
            if not math.isfinite(train_loss):
                raise DivergedError(f"the training loss became {train_loss} in epoch {state.epoch}")
            train_seconds = state.epoch_seconds

            running = evaluate(network, data.test_images, data.test_labels, on_step_end)
            tested = self._now()
            network.train()
            found = probe(network)
            probed = self._now()
            forward = self._statistics.tensors
            others = test_statistics(network, running, forward, state.epoch, on_step_end)
            if state.epoch == experiment.num_epochs:
                tests = {"running": running, **others}
                state.correct_images = {kind: test.correct.cpu() for kind, test in tests.items()}
            self.schedule.step()

            measured: dict[str, Any] = {**vars(found)}
            for kind, test in others.items():
                measured[f"test_loss_{kind}"] = test.loss
                measured[f"test_accuracy_{kind}"] = test.accuracy
            nfe_forward, nfe_backward = state.evaluations
            row = EpochRow(
                epoch=state.epoch,
                learning_rate=learning_rate,
                train_loss=train_loss,
                train_accuracy=int(state.n_correct) / n_images,
                test_loss=running.loss,
                test_accuracy=running.accuracy,
                nfe_forward=nfe_forward,
                nfe_backward=nfe_backward,
                seconds_per_step=state.step_seconds / state.steps,
                train_seconds=train_seconds,
                test_seconds=tested - trained,
                probe_seconds=probed - tested,
                statistics_seconds=self._now() - probed,
                **measured,
            )
            state.rows.append(row)
            state.begin_epoch(state.epoch + 1)
            self._epoch_clock = self._now()
            yield row

    def _train(self, data: DeviceData, on_step_end: Callable[[], None]) -> None:
        """Take the steps of the epoch that are not yet taken."""
        state, experiment = self.state, self._experiment
        step = self._captured or self._step
        batches = train_batches(
            data, seed=experiment.seed, epoch=state.epoch, batch_size=experiment.batch_size
        )
        for images, labels in islice(batches, state.steps, None):
            with self._step_clock:
                loss, n_correct = step(images, labels)
            # Summed on the device: to read the loss in every step would make the host wait.
            state.loss_sum += loss.double() * len(labels)
            state.n_correct += n_correct
            state.evaluations = self._step.evaluations
            state.steps += 1
            on_step_end()
        state.step_seconds += self._step_clock.take()

    def snapshot(self) -> RunState:
        """Complete `state` up to the last step, and return it.

        Its tensors are those that are trained: write them to a file before the next step.
        """
        state = self.state
        state.count_seconds()
        self._count_epoch_seconds()
        state.step_seconds += self._step_clock.take()
        state.network = tensors_of(self.network)
        state.optimizer = self.optimizer.state_dict()
        # The milestones are the experiment's, and a Counter is not a plain value.
        schedule = self.schedule.state_dict()
        state.schedule = {name: schedule[name] for name in schedule if name != "milestones"}
        state.random = torch.get_rng_state()
        if self._device.type == "cuda":
            state.device_random = torch.cuda.get_rng_state(self._device)
        state.forward_statistics = self._statistics.tensors
        return state

    def _restore(self) -> None:
        """Continue from the tensors of the state."""
        state, own = self.state, tensors_of(self.network)
        given = dict(state.network or {})
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in given.items()}:
            raise ValueError("the tensors are those of another network")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(given[name])
        self.optimizer.load_state_dict(dict(state.optimizer or {}))
        self.schedule.load_state_dict(dict(state.schedule or {}))
        # Without this the schedule warns that it is stepped before the optimiser.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
        if state.random is None:
            raise ValueError("the state has no random state")
        torch.set_rng_state(state.random)
        if state.device_random is not None:
            torch.cuda.set_rng_state(state.device_random, self._device)
        self._statistics.restore(state.forward_statistics)
        self._step.evaluations = state.evaluations

    def _show_batch_sizes(self, data: DeviceData, probe: Callable[[nn.Module], Probe]) -> None:
        """Run a pass without side effects for every batch size, for methods that learn from one.

        What they learn is not in a checkpoint: the first pass after a resume would differ from that
        pass in a training that never stopped.
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

    def _count_epoch_seconds(self) -> float:
        """Add to `epoch_seconds` what passed since the last call; return the time now."""
        now = self._now()
        self.state.epoch_seconds += now - self._epoch_clock
        self._epoch_clock = now
        return now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
