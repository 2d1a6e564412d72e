"""A data set in memory."""

import hashlib
from dataclasses import KW_ONLY, dataclass, replace

import torch
from torch import Tensor

from bench.data.classes import CLASSES
from bench.errors import UsageError


@dataclass(frozen=True)
class Dataset:
    """Images are uint8 (n, 3, 32, 32), labels int64 (n,): places in `classes`, which has the names.

    source: where they come from, in words. is_generated: they are no real images. fingerprint:
    identifies pixels and labels of the whole set; computed unless it is given.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    _: KW_ONLY
    classes: tuple[str, ...]
    source: str
    is_generated: bool = False
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            tensors = (self.train_images, self.train_labels, self.test_images, self.test_labels)
            object.__setattr__(self, "fingerprint", fingerprint(*tensors))

    @property
    def is_cifar(self) -> bool:
        """True if the classes are those of CIFAR-10 or CIFAR-100."""
        return self.classes == CLASSES.get(len(self.classes))

    @property
    def described(self) -> dict[str, object]:
        """The data set as a record states it."""
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "is_generated": self.is_generated,
            "is_cifar": self.is_cifar,
            "classes": [*self.classes],
            "train_images": len(self.train_labels),
            "test_images": len(self.test_labels),
        }

    def subset(self, train_images: int | None, test_images: int | None) -> "Dataset":
        """The first images of each class, the classes in turn; None: all images.

        A smaller subset is part of a larger one. The fingerprint stays that of the whole set.
        Raises UsageError if there are not enough images.
        """
        train = _balanced(self.train_labels, train_images, "training", "--train-images")
        test = _balanced(self.test_labels, test_images, "test", "--test-images")
        return replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            test_images=self.test_images[test],
            test_labels=self.test_labels[test],
        )


def fingerprint(*tensors: Tensor) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the tensors' bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _balanced(labels: Tensor, count: int | None, part: str, remedy: str) -> Tensor | slice:
    if count is None or count == len(labels):
        return slice(None)
    if count > len(labels):
        raise UsageError(
            f"the data holds {len(labels)} {part} images and {count} are asked for: "
            f"use {remedy} with fewer"
        )
    rank = torch.empty_like(labels)
    for label in labels.unique():
        of_class = labels == label
        rank[of_class] = torch.arange(int(of_class.sum()))
    order = torch.argsort(rank * (int(labels.max()) + 1) + labels)
    return order[:count]
