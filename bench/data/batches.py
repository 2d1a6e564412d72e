"""Batches, made on the device where the images are.

The order of the images, and their crops and flips, are drawn on the CPU from the seed and the epoch
alone: the same for every gradient method, on every device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.dataset import Dataset

SIZE, PADDING = 32, 4
"""In pixels."""

MEAN = (0.4914, 0.4822, 0.4465)
STANDARD_DEVIATION = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class DeviceData:
    """A data set on a device: images uint8 (n, 3, 32, 32), labels int64 (n,).

    padded: the training images in a border of black, (n, 3, 40, 40), from which they are cropped.
    """

    padded: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device) -> "DeviceData":
        return cls(
            F.pad(dataset.train_images.to(device), (PADDING,) * 4),
            dataset.train_labels.to(device),
            dataset.test_images.to(device),
            dataset.test_labels.to(device),
        )

    @property
    def train_images(self) -> Tensor:
        """The images without the border: a view."""
        inside = slice(PADDING, -PADDING)
        return self.padded[..., inside, inside]


@dataclass(frozen=True)
class EpochPlan:
    """order: a permutation of the images. For the i-th of that order, top and left: the pixel of
    the padded image at which its crop begins; flip: true if it is mirrored. All (n,)."""

    order: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> "EpochPlan":
        return EpochPlan(*(tensor.to(device) for tensor in vars(self).values()))


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
    """One epoch of (images, labels), augmented and normalised; the last batch may be smaller.

    All that an epoch needs is on the device before its first batch. A batch is then one gather and
    the normalisation: on CUDA three kernels, no copy from the host and no wait for the device.
    """
    plan = epoch_plan(seed, epoch, len(data.padded)).to(data.padded.device)
    rows, columns = _crops(plan)
    labels = data.train_labels[plan.order]
    normalise = _normaliser(data.padded.device)
    for start in range(0, len(plan.order), batch_size):
        batch = slice(start, start + batch_size)
        chosen = plan.order[batch, None, None]
        images = data.padded[chosen, :, rows[batch, :, None], columns[batch, None, :]]
        yield normalise(images.permute(0, 3, 1, 2)), labels[batch]  # channels came last


def evaluation_batches(
    images: Tensor, labels: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in their order, normalised and not augmented."""
    normalise = _normaliser(images.device)
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        yield normalise(images[batch]), labels[batch]


def _normaliser(device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function of images, uint8 (n, 3, 32, 32) → float32, channels last, that takes the published
    mean and standard deviation of CIFAR-10's channels out."""
    mean, deviation = (_everywhere(values, device) for values in (MEAN, STANDARD_DEVIATION))
    last = torch.channels_last
    return lambda images: images.contiguous(memory_format=last).sub(mean).div_(deviation)


def _everywhere(channels: tuple[float, ...], device: torch.device) -> Tensor:
    # As large as an image: broadcast over pixels, whose channels are innermost, it would be applied
    # three numbers at a time.
    each = torch.tensor(channels).view(1, 3, 1, 1) * 255
    image = each.expand(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    return image[0].to(device)


def _crops(plan: EpochPlan) -> tuple[Tensor, Tensor]:
    """Rows and columns (n, 32) of each padded image's crop; a mirrored one's go right to left."""
    along = torch.arange(SIZE, device=plan.order.device)
    columns = torch.where(plan.flip[:, None], SIZE - 1 - along, along)
    return plan.top[:, None] + along, plan.left[:, None] + columns
