"""A folder of images: train/<class>/* and test/<class>/*, PNG or JPEG, 32×32."""

import difflib
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from bench.data.classes import CLASSES
from bench.data.dataset import Dataset, fingerprint
from bench.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg"}
_PARTS = ("train", "test")
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def load(folder: Path, num_classes: int) -> Dataset:
    """The images of a folder, labelled by the alphabetical order of its classes.

    Decoded once: the pixels are kept in `<folder>-decoded.npz` beside the folder and taken from
    there as long as the folder's file names, sizes and times are unchanged and the pixels still
    have the fingerprint that was written with them. Raises UsageError, naming the file or the
    class, for anything that is not CIFAR in this form.
    """
    files = {part: _labelled_files(folder / part, num_classes) for part in _PARTS}
    signature = _signature(folder, [file for part in _PARTS for file, _ in files[part]])
    cache = folder.resolve().with_name(folder.resolve().name + "-decoded.npz")
    arrays = _read_cache(cache, signature)
    if arrays is None:
        arrays = {}
        for part in _PARTS:
            arrays[f"{part}_images"] = _decode(files[part], f"decoding {part} images")
            arrays[f"{part}_labels"] = np.array([label for _, label in files[part]], np.int64)
        _write_cache(cache, signature, arrays)
    return Dataset.of(
        *(torch.from_numpy(arrays[name]) for name in _ARRAYS),
        num_classes=num_classes,
        source=f"folder of images in CIFAR-{num_classes}'s {num_classes} classes "
        "(not verified to be the official pixels)",
    )


def _labelled_files(folder: Path, num_classes: int) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise UsageError(f"the data folder has no {folder}: it must hold train/ and test/")
    found = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    expected = CLASSES[num_classes]
    if found != set(expected):
        raise UsageError(f"{folder} has the wrong classes: {_difference(found, expected)}")
    labelled = []
    for label, name in enumerate(expected):
        files = sorted(
            file for file in (folder / name).iterdir() if file.suffix.lower() in SUFFIXES
        )
        if not files:
            raise UsageError(f"{folder / name} holds no PNG or JPEG image: put its images there")
        labelled += [(file, label) for file in files]
    return labelled


def _difference(found: set[str], expected: tuple[str, ...]) -> str:
    missing = sorted(set(expected) - found)
    extra = sorted(found - set(expected))
    said = []
    if missing:
        said.append(f"{_some(missing)} missing")
    if extra:
        near = difflib.get_close_matches(extra[0], missing, n=1)
        said.append(f"{_some(extra)} unknown" + (f" (is it {near[0]}?)" if near else ""))
    return f"{', '.join(said)}; CIFAR-{len(expected)} has {_some(list(expected))}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _decode(files: list[tuple[Path, int]], description: str) -> np.ndarray:
    images = np.empty((len(files), 3, 32, 32), np.uint8)
    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded: Iterable[np.ndarray] = pool.map(_decode_image, (file for file, _ in files))
        decoded = track(
            decoded,
            description,
            total=len(files),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        for index, image in enumerate(decoded):
            images[index] = image
    return images


def _decode_image(file: Path) -> np.ndarray:
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            # The header tells the size before anything is decoded.
            if image.size != (32, 32):
                width, height = image.size
                raise UsageError(f"{file} is {width}×{height} pixels, not 32×32: replace it")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{file} is no readable PNG or JPEG image: replace it") from error


def _signature(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise UsageError(f"{file} cannot be read ({error.strerror}): replace it") from error
        digest.update(
            f"{file.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()


def _read_cache(cache: Path, signature: str) -> dict[str, np.ndarray] | None:
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["signature"]) != signature:
                return None
            arrays = {name: stored[name] for name in _ARRAYS}
            intact = str(stored["fingerprint"]) == _fingerprint(arrays)
    except _UNREADABLE:
        return None
    return arrays if intact else None


def _write_cache(cache: Path, signature: str, arrays: dict[str, np.ndarray]) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=cache.parent, suffix=".npz", delete=False) as file:
            try:
                np.savez(
                    file,
                    allow_pickle=False,
                    signature=np.array(signature),
                    fingerprint=np.array(_fingerprint(arrays)),
                    **arrays,
                )
            except BaseException:
                os.unlink(file.name)
                raise
        os.replace(file.name, cache)
    except OSError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"The decoded images could not be kept in {cache} ({error.strerror})."
        )


def _fingerprint(arrays: dict[str, np.ndarray]) -> str:
    return fingerprint(*(torch.from_numpy(arrays[name]) for name in _ARRAYS))
