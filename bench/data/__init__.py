"""CIFAR-10, CIFAR-100 and the user's own images, from three kinds of source, as tensors."""

import os
from pathlib import Path

from bench.data import generated, image_folder, official
from bench.data.batches import DeviceData, epoch_plan, evaluation_batches, train_batches
from bench.data.dataset import Dataset
from bench.errors import UsageError

__all__ = [
    "Dataset",
    "DeviceData",
    "class_names",
    "epoch_plan",
    "evaluation_batches",
    "load",
    "train_batches",
]

DEFAULT_FOLDER = Path("data")


def class_names(folder: Path | None) -> tuple[str, ...] | None:
    """The classes of a folder of images, in label order; None for every other source.

    Raises UsageError unless train/ and test/ have the same classes, at least two.
    """
    return image_folder.class_names(folder) if folder and _has_images(folder) else None


def load(folder: Path | None, num_classes: int, *, generate: bool) -> Dataset:
    """The data set. num_classes: of generated images and of the official data sets, which have 10
    or 100; a folder of images has its own.

    generate: the generated set, whatever the folder. A folder with `train/` is one of images, one
    with torchvision's files is the official data set; None is the official data set in `data/`,
    downloaded if it is missing. Raises UsageError, which says what to do, if there is no such data.
    """
    if generate:
        return generated.load(num_classes)
    if folder is None:
        return official.load(DEFAULT_FOLDER, num_classes)
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UsageError(f"the data folder {folder} {what}: give another --data-dir")
    if _has_images(folder):
        return image_folder.load(folder)
    if official.is_in(folder, num_classes):
        return official.load(folder, num_classes)
    raise UsageError(
        f"the data folder {folder} holds neither train/<class>/ with images nor "
        f"{official.FOLDERS.get(num_classes, 'CIFAR')}: give another --data-dir, or leave it out "
        "to download the official data, or use --generated"
    )


def _has_images(folder: Path) -> bool:
    return os.path.isdir(folder / "train")
