"""Images solved forward and backward in time: Figures 1 and 7 of the ANODE paper."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench import records
from bench.records import Picture
from plots import drawing, labels, style

TITLES = ("input", "output,\nstretched", "reconstruction,\nclipped", "difference")


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each solver of the recorded pictures: a row for each activation. None where no
    pictures are recorded."""
    suite_folder = next(p for p in folder.parents if (p / records.MEASUREMENTS).exists())
    if not (suite_folder / records.PICTURES).exists():
        return []
    pictures = sorted(records.read_pictures(suite_folder), key=_solver)
    return [
        file
        for solver, part in groupby(pictures, key=_solver)
        for file in _draw(solver, list(part), folder)
    ]


def _solver(picture: Picture) -> str:
    """The label of a solver: an adaptive one has a tolerance and no fixed number of steps."""
    name = labels.solver(picture.scheme)
    if picture.tolerance:
        return f"{name}, rtol {picture.tolerance:g}"
    return f"{name}, {picture.n_steps} step{'' if picture.n_steps == 1 else 's'}"


def _draw(solver: str, pictures: Sequence[Picture], folder: Path) -> list[Path]:
    figure, axes = drawing.subplots(
        len(pictures),
        len(TITLES),
        height=0.75 + 0.66 * len(pictures),
        width=style.ONE_COLUMN,
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0),
    )
    for line, picture in zip(axes, pictures, strict=True):
        for axis, values in zip(line, _images(picture), strict=True):
            difference = axis.imshow(values, "magma", vmin=0, vmax=1, interpolation="none")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(labels.activation(picture.activation), fontsize=6)
        steps = f"\n{picture.n_steps} steps" if picture.tolerance else ""
        line[-1].text(1.06, 0.5, f"ρ = {picture.rho:.2g}{steps}", va="center", fontsize=6.5,
                      transform=line[-1].transAxes)  # fmt: skip
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=6.5, pad=3)
    figure.suptitle(solver, fontsize=9)
    scale = figure.colorbar(
        difference, ax=axes, location="bottom", shrink=0.6, aspect=30, extend="max"
    )
    scale.set_label("difference: |reconstruction − input|, mean of the three channels", fontsize=7)
    drawing.caption(
        figure,
        "One 3×3 convolution with Gaussian weights, then the activation, from t = 0 to 1 and back. "
        "Stretched: to the output's own range. Clipped: to [0, 1]. "
        f"Data: {pictures[0].data}.",
    )
    slug = re.sub(r"[^a-z0-9.]+", "-", solver.lower()).strip("-")
    return drawing.save(figure, folder, f"reversal_pictures-{slug}")


def _images(picture: Picture) -> tuple[np.ndarray, ...]:
    """The images of TITLES, (32, 32, 3) in [0, 1], and the difference (32, 32). Values that are
    not finite are black."""
    output = np.nan_to_num(picture.output, posinf=0.0, neginf=0.0)
    span = np.ptp(output) or 1.0
    back = np.nan_to_num(picture.reconstruction, posinf=1.0)
    shown = (picture.input.clip(0, 1), (output - output.min()) / span, back.clip(0, 1))
    difference = np.abs(back - picture.input).mean(axis=0)
    return (*(image.transpose(1, 2, 0) for image in shown), difference)
