"""A folder of images: train/<class>/* and test/<class>/*, 32×32."""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from bench.data import image_file
from bench.data.classes import CLASSES
from bench.data.dataset import Dataset, fingerprint
from bench.errors import UsageError, readable
from bench.records.files import remove_parts, whole

LARGEST_FILE = 2**20
"""Bytes; an image of 32×32 pixels needs some thousands of them."""

_IGNORED = {"Thumbs.db", "desktop.ini"}
"""System files of Windows. Names that begin with a dot are ignored as well."""

_DECODING = b"2\n"
"""Version of the decoding: caches of another version are not used."""

_PARTS = ("train", "test")
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(folder: Path) -> Dataset:
    """The images of a folder, labelled by the alphabetical order of its classes: CIFAR's or others.

    Decoded once: the pixels are kept in `<folder>-decoded.npz` beside the folder and taken from
    there as long as the folder's file names, sizes and times are unchanged and the pixels still
    have the fingerprint that was written with them. Every file in train/ and test/ is used, or
    UsageError is raised with its name: for one in no class's folder or in a folder within it, for
    links that lead out of the data folder, and for what `image_file.decode` refuses.
    """
    names = class_names(folder)
    files = {part: _labelled_files(folder, part, names) for part in _PARTS}
    signature = _signature(folder, [file for part in _PARTS for file, _ in files[part]])
    cache = folder.resolve().with_name(folder.resolve().name + "-decoded.npz")
    remove_parts(cache.parent, cache.name)
    arrays = _read_cache(cache, signature)
    if arrays is None:
        arrays = {}
        for part in _PARTS:
            arrays[f"{part}_images"] = _decode(files[part], f"decoding {part} images")
            arrays[f"{part}_labels"] = np.array([label for _, label in files[part]], np.int64)
        _write_cache(cache, signature, arrays)
    source = f"folder of images in {len(names)} classes of its own"
    if names == CLASSES.get(len(names)):
        source = (
            f"folder of images in CIFAR-{len(names)}'s {len(names)} classes (not verified to be "
            "the official pixels)"
        )
    images_and_labels = (torch.from_numpy(arrays[name]) for name in _ARRAYS)
    return Dataset(*images_and_labels, classes=tuple(map(readable, names)), source=source)


def class_names(folder: Path) -> tuple[str, ...]:
    """The classes of a folder of images, in alphabetical order. Raises UsageError unless train/
    and test/ have the same classes, at least two."""
    train, test = (_classes(folder, part) for part in _PARTS)
    if train != test:
        raise UsageError(
            f"{folder / 'test'} has other classes than train/ ({_difference(test, train)}): "
            "give both the same ones"
        )
    if len(train) < 2:
        raise UsageError(
            f"{folder / 'train'} holds {len(train)} class: put the images of each class into a "
            "folder, at least two"
        )
    return tuple(sorted(train))


def _classes(root: Path, part: str) -> set[str]:
    folder = root / part
    if not folder.is_dir():
        raise UsageError(f"the data folder has no {folder}: it must hold train/ and test/")
    _check_link(folder, Path(os.path.realpath(root)))
    found = set()
    for entry in _entries(folder):
        if not entry.is_dir():
            raise UsageError(f"{folder / entry.name} lies outside the classes: move it into one")
        found.add(entry.name)
    return found


def _labelled_files(root: Path, part: str, names: Sequence[str]) -> list[tuple[Path, int]]:
    folder, inside = root / part, Path(os.path.realpath(root))
    labelled = []
    for label, name in enumerate(names):
        files = sorted(_images(folder / name, inside))
        if not files:
            raise UsageError(f"{folder / name} holds no image: put its images there")
        labelled += [(file, label) for file in files]
    return labelled


def _images(folder: Path, inside: Path) -> Iterator[Path]:
    """The files of a class."""
    _check_link(folder, inside)
    for entry in _entries(folder):
        file = folder / entry.name
        if entry.is_symlink():
            _check_link(file, inside)
            _status(file)
        if entry.is_dir():
            raise UsageError(f"{file} is a folder within a class: move its images up into {folder}")
        if not entry.is_file():
            raise UsageError(f"{file} is no file: remove it")
        yield file


def _check_link(path: Path, inside: Path) -> None:
    """Raise UsageError for a file outside of the data folder: it may be private."""
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
        raise UsageError(
            f"{path} is a link that leads out of the data folder: put there what it leads to"
        )


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """The entries of a folder without hidden and system files."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name not in _IGNORED]
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}): make it readable") from error


def _difference(found: set[str], expected: set[str]) -> str:
    parts = []
    for names, what in ((expected - found, "missing"), (found - expected, "unknown")):
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            parts.append(f"{', '.join(sorted(names)[:10])}{more} {what}")
    return ", ".join(parts)


def _decode(files: list[tuple[Path, int]], description: str) -> np.ndarray:
    images = np.empty((len(files), 3, 32, 32), np.uint8)
    # Pillow's warnings about an image are left out: what cannot be used is an error.
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded: Iterable[np.ndarray] = pool.map(image_file.decode, (file for file, _ in files))
        decoded = track(
            decoded,
            description,
            total=len(files),
            console=Console(file=sys.stderr),
            transient=True,
            disable=not sys.stderr.isatty(),  # rich takes a log for a terminal with FORCE_COLOR
        )
        for index, image in enumerate(decoded):
            images[index] = image
    return images


def _signature(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256(_DECODING)
    for file in files:
        status = _status(file)
        if status.st_size > LARGEST_FILE:
            raise UsageError(
                f"{file} has {status.st_size} bytes, more than an image of 32×32 pixels: "
                f"{image_file.RESIZE}"
            )
        digest.update(os.fsencode(file.relative_to(folder)))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _status(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): replace it") from error


def _read_cache(cache: Path, signature: str) -> dict[str, np.ndarray] | None:
    """The arrays of a cache; None if it is missing, damaged, or made from other files."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
            known = str(stored["signature"]), str(stored["fingerprint"])
        return arrays if known == (signature, _fingerprint(arrays)) else None
    except Exception:  # whatever is wrong with it, the images are still there
        return None


def _write_cache(cache: Path, signature: str, arrays: dict[str, np.ndarray]) -> None:
    try:
        with whole(cache) as stream:
            np.savez(
                stream,
                allow_pickle=False,
                signature=np.array(signature),
                fingerprint=np.array(_fingerprint(arrays)),
                **arrays,
            )
    except OSError as error:
        said = f"The decoded images could not be kept in {cache} ({error.strerror})."
        print(readable(said), file=sys.stderr)


def _fingerprint(arrays: dict[str, np.ndarray]) -> str:
    return fingerprint(*(torch.from_numpy(arrays[name]) for name in _ARRAYS))
