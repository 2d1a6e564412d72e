"""Images that were solved forward and backward in time: pictures.npz."""

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
    """An image, the output of a solver and its reconstruction: (3, 32, 32), float64 in [0, 1].

    n_steps and tolerance as in ReversalRow. data: the source of the image.
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
    suite_folder: Path, pictures: Sequence[Picture], environments: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Record pictures in place of those that are there, and return the file."""
    columns = {
        name: np.array([getattr(picture, name) for picture in pictures])
        for name in Picture.__dataclass_fields__
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns)
    checksums.write(suite_folder / PICTURES, content.getvalue(), environments)
    return suite_folder / PICTURES


def read_pictures(suite_folder: Path) -> list[Picture]:
    """The pictures in a suite's folder. Raises UsageError if there are none or damaged ones."""
    content = checksums.read(suite_folder / PICTURES)
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        columns = {name: stored[name] for name in Picture.__dataclass_fields__}
    # tolist: plain numbers and text instead of NumPy's scalars.
    plain = (column.tolist() if column.ndim == 1 else column for column in columns.values())
    return [Picture(*row) for row in zip(*plain, strict=True)]
