"""The inputs of a run: data, device and results folder."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.data import Dataset, DeviceData, evaluation_batches
from bench.errors import UsageError
from bench.experiment import Experiment


@dataclass(frozen=True)
class Workload:
    """Data, device and settings that all experiments of a suite share.

    results: the folder that holds the suite's folder. jobs: experiments at once on a device. eager:
    capture no CUDA graphs. executor: a name of `executors.EXECUTORS`.
    """

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
        """For single steps of networks with 10 outputs, which record nothing. Raises UsageError if
        the data has more classes, or fewer images than a batch."""
        available = len(dataset.train_labels)
        if batch_size > available:
            raise UsageError(f"--batch_size {batch_size}: the data has {available} images")
        if len(dataset.classes) > Experiment.num_classes:
            raise UsageError(
                f"the data has {len(dataset.classes)} classes, and the suite {suite} measures "
                f"networks with {Experiment.num_classes} outputs: give another --data-dir"
            )
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

    def steps_an_epoch(self, experiment: Experiment) -> int:
        """The number of training steps of an epoch."""
        images = experiment.train_images or len(self.dataset.train_labels)
        return math.ceil(images / experiment.batch_size)

    def fixed_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """The first `size` training images, classes in turn, not augmented, the same in every run.

        Returns normalised images (size, 3, 32, 32) and labels (size,); all if there are fewer.
        """
        size = min(size, len(self.dataset.train_labels))
        data = DeviceData.of(self.dataset.subset(size, 1), self.device)
        return next(evaluation_batches(data.train_images, data.train_labels, size))
