"""Batches, made on the device where the images live.

Which images come when, and how each is cropped and flipped, is drawn on the CPU from the seed and
the epoch alone: the same for every gradient method, on every device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.dataset import Dataset

PADDING = 4
MEAN = (0.4914, 0.4822, 0.4465)
STANDARD_DEVIATION = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class DeviceData:
    """A data set on a device: images uint8 (n, 3, 32, 32), labels int64 (n,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device) -> "DeviceData":
        return cls(
            dataset.train_images.to(device),
            dataset.train_labels.to(device),
            dataset.test_images.to(device),
            dataset.test_labels.to(device),
        )


@dataclass(frozen=True)
class EpochPlan:
    """order: a permutation of the images. For the i-th image of that order, top and left: where
    its crop begins in the padded image, in pixels; flip: whether it is mirrored. All (n,)."""

    order: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> "EpochPlan":
        return EpochPlan(
            self.order.to(device), self.top.to(device), self.left.to(device), self.flip.to(device)
        )


def epoch_plan(seed: int, epoch: int, count: int) -> EpochPlan:
    """The plan of one epoch over `count` images, on the CPU."""
    entropy = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(entropy))
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
    return EpochPlan(
        torch.randperm(count, generator=generator),
        shifts[0],
        shifts[1],
        torch.rand(count, generator=generator) < 0.5,
    )


def train_batches(
    data: DeviceData, *, seed: int, epoch: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images, labels), augmented and normalised; the last batch may be smaller."""
    plan = epoch_plan(seed, epoch, len(data.train_images)).to(data.train_images.device)
    for start in range(0, len(plan.order), batch_size):
        batch = slice(start, start + batch_size)
        chosen = plan.order[batch]
        images = augment(
            data.train_images[chosen], plan.top[batch], plan.left[batch], plan.flip[batch]
        )
        yield normalise(images), data.train_labels[chosen]


def evaluation_batches(
    images: Tensor, labels: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in their order, normalised, as they are."""
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        yield normalise(images[batch]), labels[batch]


def augment(images: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Crop each image from its copy padded with black, and mirror it where `flip` says so.

    Images uint8 (n, 3, 32, 32) in and out; top, left and flip (n,).
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    across = torch.arange(width, device=images.device).expand(n, width)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.where(flip[:, None], width - 1 - across, across)
    image = torch.arange(n, device=images.device)
    cropped = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)  # channels came last


def normalise(images: Tensor) -> Tensor:
    """uint8 (n, 3, 32, 32) → float32, channels last, each channel with the published mean and
    standard deviation of CIFAR-10 taken out."""
    scale = torch.tensor(STANDARD_DEVIATION, device=images.device).view(3, 1, 1) * 255
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1) * 255
    return images.contiguous(memory_format=torch.channels_last).sub(mean).div_(scale)
