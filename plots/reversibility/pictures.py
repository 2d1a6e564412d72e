"""Images that were solved there and back: Figures 1 and 7 of the ANODE paper."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench import records
from bench.records import Picture
from plots import style
from plots.reversibility.rows import scheme_name

COLUMNS = ("input", "output", "reconstruction", "difference")


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each solver of the recorded pictures: a row for each activation."""
    pictures = records.read_pictures(folder.parent)
    pictures.sort(key=_solver)
    return [
        file
        for solver, part in groupby(pictures, key=_solver)
        for file in _draw(solver, list(part), folder)
    ]


def _solver(picture: Picture) -> str:
    """A solver in words: an adaptive one by its tolerance, the number of its steps varies."""
    name = scheme_name(picture.scheme)
    if picture.tolerance:
        return f"{name}, rtol {picture.tolerance:g}"
    return f"{name}, {picture.n_steps} step{'' if picture.n_steps == 1 else 's'}"


def _draw(solver: str, pictures: Sequence[Picture], folder: Path) -> list[Path]:
    style.begin()
    figure, axes = plt.subplots(
        len(pictures),
        len(COLUMNS),
        figsize=(style.ONE_COLUMN * 1.35, 0.35 + 0.92 * len(pictures)),
        squeeze=False,
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0),
    )
    for line, picture in zip(axes, pictures, strict=True):
        for axis, values in zip(line, _columns(picture), strict=True):
            axis.imshow(values.transpose(1, 2, 0), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(style.ACTIVATION_NAMES.get(picture.activation, picture.activation))
        steps = f"\n{picture.n_steps} steps" if picture.tolerance else ""
        line[-1].text(1.06, 0.5, f"ρ = {picture.rho:.2g}{steps}", va="center",
                      transform=line[-1].transAxes)  # fmt: skip
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title)
    figure.suptitle(solver, fontsize=9)
    style.footnote(
        figure,
        "One 3×3 convolution with Gaussian weights, then the activation, from t = 0 to 1 and back. "
        "Input and reconstruction are clipped to [0, 1], the output is stretched to its own range, "
        f"the difference is |reconstruction − input| clipped to [0, 1]. Data: {pictures[0].data}.",
    )
    slug = re.sub(r"[^a-z0-9.]+", "-", solver.lower()).strip("-")
    return style.save(figure, folder, f"reversal_pictures-{slug}")


def _columns(picture: Picture) -> tuple[np.ndarray, ...]:
    """What COLUMNS show, in [0, 1]. What is not a number is black."""
    output = np.nan_to_num(picture.output, posinf=0.0, neginf=0.0)
    span = np.ptp(output) or 1.0
    back = np.nan_to_num(picture.reconstruction, posinf=1.0)
    return (
        picture.input.clip(0, 1),
        (output - output.min()) / span,
        back.clip(0, 1),
        np.abs(back - picture.input).clip(0, 1),
    )
