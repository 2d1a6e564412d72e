"""The official CIFAR-10 and CIFAR-100 through torchvision."""

import os
import tempfile
import urllib.error
from pathlib import Path
from typing import Any

import torch

from bench.data.classes import CLASSES
from bench.data.dataset import Dataset
from bench.errors import UsageError

FOLDERS = {10: "cifar-10-batches-py", 100: "cifar-100-python"}


def is_in(folder: Path, num_classes: int) -> bool:
    """Return whether torchvision's files are in the folder."""
    return num_classes in FOLDERS and (folder / FOLDERS[num_classes]).is_dir()


def load(folder: Path, num_classes: int) -> Dataset:
    """The data set from torchvision's files under `folder`, downloaded if they are missing.

    torchvision compares every file's MD5 with the published one before it unpickles it. Raises
    UsageError if a file differs, or the download fails, which leaves nothing behind.
    """
    if num_classes not in FOLDERS:
        raise UsageError(
            f"no official data has {num_classes} classes: give the folder of images with --data-dir"
        )
    if not is_in(folder, num_classes):
        _download(folder, num_classes)
    try:
        train = _torchvision(num_classes)(folder, train=True)
        test = _torchvision(num_classes)(folder, train=False)
    except RuntimeError as error:
        raise UsageError(
            f"the files in {folder / FOLDERS[num_classes]} are not the published ones (their MD5 "
            "differs): delete that folder and run again to download them"
        ) from error
    return Dataset(
        *_tensors(train),
        *_tensors(test),
        classes=CLASSES[num_classes],
        source=f"official CIFAR-{num_classes} (torchvision, MD5 verified)",
    )


def _download(folder: Path, num_classes: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as staging:
            _torchvision(num_classes)(staging, download=True)
            os.replace(Path(staging, FOLDERS[num_classes]), folder / FOLDERS[num_classes])
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UsageError(
            f"CIFAR-{num_classes} could not be downloaded to {folder} ({reason}): connect this "
            "machine, give a folder that has it with --data-dir, or use --generated"
        ) from error
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _tensors(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(dataset.targets, dtype=torch.int64)


def _torchvision(num_classes: int) -> Any:
    datasets = import_torchvision_datasets()
    return {10: datasets.CIFAR10, 100: datasets.CIFAR100}[num_classes]


def import_torchvision_datasets() -> Any:
    """The module torchvision.datasets, even if torchvision's compiled operators do not load.

    The published wheel is built for CUDA: beside a CPU-only torch its import stops with "operator
    torchvision::nms does not exist". With the schemas of these operators declared it works, and
    data sets need no operator.
    """
    try:
        import torchvision.datasets
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
        import torchvision.datasets
    return torchvision.datasets
