"""What the experiments of a suite share: data, device and place; and a step to measure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bench.data import Dataset, DeviceData, evaluation_batches
from bench.errors import UsageError
from bench.experiment import Experiment
from bench.instruments import memory
from bench.layout import MEMORY_FORMATS, layout_of
from bench.training import cuda_graph
from bench.training import step as training
from bench.training.cuda_graph import CapturedStep


@dataclass(frozen=True)
class Workload:
    """results is the folder that holds the suite's folder; jobs is how many of the experiments
    share a device at once; eager: whether CUDA graphs are not to be used; executor: the name of the
    one that runs them."""

    suite: str
    results: Path
    dataset: Dataset
    device: torch.device
    jobs: int = 1
    eager: bool = False
    executor: str = "local"

    @classmethod
    def of_steps(
        cls, suite: str, dataset: Dataset, device: torch.device, batch_size: int
    ) -> "Workload":
        """For single steps, which record nothing. Raises UsageError when the data has fewer images
        than the batch."""
        available = len(dataset.train_labels)
        if batch_size > available:
            raise UsageError(f"--batch_size {batch_size}: the data has {available} images")
        return cls(suite, Path(), dataset, device)

    @property
    def folder(self) -> Path:
        return self.results / self.suite

    def data_for(self, experiment: Experiment) -> DeviceData:
        """The experiment's images, on the device."""
        subset = self.dataset.subset(experiment.train_images, experiment.test_images)
        return DeviceData.of(subset, self.device)

    def batch_size(self, experiment: Experiment) -> int:
        """The size of the experiment's largest batch: no larger than its training set."""
        available = experiment.train_images or len(self.dataset.train_labels)
        return min(experiment.batch_size, available)

    def fixed_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Training images of all classes in turn, not augmented, the same for every run.

        Normalised images (size, 3, 32, 32) and labels; fewer where the data has not so many.
        """
        size = min(size, len(self.dataset.train_labels))
        data = DeviceData.of(self.dataset.subset(size, 1), self.device)
        return next(evaluation_batches(data.train_images, data.train_labels, size))


class Needs(NamedTuple):
    """Peak bytes of a step, and evaluations of the right-hand sides."""

    peak_bytes: int
    nfe_forward: int
    nfe_backward: int


class Stepper:
    """A throw-away network that takes one training step after another on a fixed batch.

    layout: "channels_last" or "contiguous"; None is that of training. is_captured: whether the step
    is replayed as a CUDA graph, where that is possible; it has no phases then.
    """

    def __init__(
        self,
        workload: Workload,
        experiment: Experiment,
        batch_size: int,
        layout: str | None = None,
        is_captured: bool = False,
    ) -> None:
        self.images, self.labels = workload.fixed_batch(batch_size)
        layout = layout or layout_of(workload.device)
        self.images = self.images.contiguous(memory_format=MEMORY_FORMATS[layout])
        self.network = training.build_network(experiment, workload.device, layout)
        self.optimizer = training.make_optimizer(self.network, experiment)
        self._captured: CapturedStep | None = None
        if is_captured and cuda_graph.obstacle(self.network, workload.device) is None:
            step = training.TrainingStep(self.network, self.optimizer)
            self._captured = CapturedStep(
                step, self.optimizer, reads_constants=cuda_graph.reads_constants(self.network)
            )
            for _ in range(cuda_graph.EAGER_STEPS + 1):
                self._captured(self.images, self.labels)

    @property
    def is_captured(self) -> bool:
        return self._captured is not None and self._captured.reason is None

    @property
    def capture_failure(self) -> str | None:
        """Why the step could not be captured where the gradient method allows it; else None."""
        return self._captured.reason if self._captured else None

    def __call__(self, passed: Callable[[str], None] = lambda phase: None) -> None:
        if self._captured is not None:
            self._captured(self.images, self.labels)
        else:
            self.eagerly(passed)

    def eagerly(self, passed: Callable[[str], None] = lambda phase: None) -> None:
        """The step as Python runs it, whatever `is_captured` says."""
        training.training_step(self.network, self.optimizer, self.images, self.labels, passed)

    def evaluations(self) -> tuple[int, int]:
        """Evaluations of the right-hand sides in one step: forward, backward."""
        step = training.TrainingStep(self.network, self.optimizer)
        step(self.images, self.labels)
        return step.evaluations

    def needs(self) -> Needs:
        """Of one eager step, exactly, but for the rounding of CUDA's allocator."""
        counts: list[tuple[int, int]] = []
        peak = memory.peak_bytes(lambda: counts.append(self.evaluations()), self.images.device)
        ((forward, backward),) = counts
        return Needs(peak, forward, backward)
