"""A made-up data set in CIFAR's shape, for trying the suite with no download."""

import numpy as np
import torch

from bench.data.dataset import Dataset

TRAIN_IMAGES = 5_000
TEST_IMAGES = 1_000
_CELL = 8


def load(num_classes: int) -> Dataset:
    """5,000 training and 1,000 test images of `num_classes` classes that can be learned.

    A class is a coarse pattern of 4×4 colours; an image is its pattern moved, faded, lightened or
    darkened, and covered with noise. Integer arithmetic and NumPy's frozen generator make the same
    pixels on every machine.
    """
    random = np.random.RandomState(0)
    patterns = random.randint(0, 256, size=(num_classes, 3, 32 // _CELL, 32 // _CELL))
    patterns = patterns.repeat(_CELL, axis=2).repeat(_CELL, axis=3)
    train = _draw(random, patterns, TRAIN_IMAGES)
    test = _draw(random, patterns, TEST_IMAGES)
    return Dataset(
        *train,
        *test,
        classes=tuple(map(str, range(num_classes))),
        source=f"generated images in {num_classes} classes, not CIFAR-{num_classes}",
        is_generated=True,
    )


def _draw(
    random: np.random.RandomState, patterns: np.ndarray, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    labels = random.permutation(np.arange(count) % len(patterns))
    shifts = random.randint(-4, 5, size=(count, 2))
    contrast = random.randint(2, 9, size=(count, 1, 1, 1))  # sixteenths of the full contrast
    brightness = random.randint(-40, 41, size=(count, 1, 1, 1))
    images = np.stack(
        [
            np.roll(patterns[label], tuple(shift), axis=(1, 2))
            for label, shift in zip(labels, shifts, strict=True)
        ]
    )
    images = 128 + (images - 128) * contrast // 16 + brightness
    images += random.randint(-64, 65, size=images.shape)
    return (
        torch.from_numpy(images.clip(0, 255).astype(np.uint8)),
        torch.from_numpy(labels.astype(np.int64)),
    )
