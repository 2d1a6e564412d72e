"""Images that were solved there and back, pictures.npz."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.records import checksums

PICTURES = "pictures.npz"


@dataclass(frozen=True)
class Picture:
    """An image (3, 32, 32), float64 in [0, 1], what a solver makes of it, and what comes back.

    n_steps and tolerance as in ReversalRow; data says where the image is from.
    """

    scheme: str
    activation: str
    n_steps: int
    tolerance: float
    rho: float
    data: str
    input: np.ndarray
    output: np.ndarray
    reconstruction: np.ndarray


def write_pictures(
    suite_folder: Path,
    pictures: Sequence[Picture],
    environments: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Record pictures in place of those that were there, and return the file."""
    columns = {
        name: np.array([getattr(picture, name) for picture in pictures])
        for name in Picture.__dataclass_fields__
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns)
    checksums.write(suite_folder / PICTURES, content.getvalue(), environments)
    return suite_folder / PICTURES


def read_pictures(suite_folder: Path) -> list[Picture]:
    """The pictures recorded in a suite's folder. Raises UsageError when there is no such record
    or it cannot be read."""
    content = checksums.read(suite_folder / PICTURES)
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        columns = {name: stored[name] for name in Picture.__dataclass_fields__}
    rows = zip(*columns.values(), strict=True)
    return [Picture(*(_plain(value) for value in row)) for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
