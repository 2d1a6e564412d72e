"""A user's settings of matplotlib change no figure."""

import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from bench import records
from bench.records import Picture, ReversalRow
from tests.plots.test_figures import recorded  # noqa: F401

FLIPPED = {name: not value for name, value in mpl.rcParamsDefault.items() if value in (True, False)}
"""Every setting that is on or off, the other way: text.usetex, svg.image_inline, axes.grid, …"""
OTHERS = {
    **{"backend": "nonsense", "image.origin": "lower", "image.cmap": "jet", "figure.dpi": 300},
    **{"figure.facecolor": "black", "axes.facecolor": "black", "text.color": "white"},
    **{"savefig.facecolor": "black", "savefig.bbox": "standard", "savefig.pad_inches": 1},
    **{"font.family": "serif", "font.weight": "bold", "lines.linewidth": 9, "lines.marker": "o"},
    **{"path.sketch": "1, 100, 2", "axes.xmargin": 0.4, "xtick.direction": "in"},
    **{"mathtext.fontset": "cm", "svg.id": "mine", "pdf.fonttype": 42},
}

DRAW = """
import sys, pathlib, plots
from bench.records import ReversalRow
folder = pathlib.Path(sys.argv[1])
plots.draw(tuple(plots.FIGURES), folder, sys.argv[2:])
plots.draw_measured(["reversal_pictures"], folder.parent / "pictures", ReversalRow, (), {()})
"""


@pytest.fixture
def suite(recorded):  # noqa: F811
    """A suite's folder with runs and their names; beside it a suite `pictures`, with an image that
    is solved there and back."""
    folder = recorded[0].parent / "pictures"
    row = ReversalRow("linear-100", "none", "euler", 1, 1, 0.0, "float64", 0, 0.5, "ok", 2, "cpu",
                      "none", "none")  # fmt: skip
    records.write_rows(folder / records.MEASUREMENTS, ReversalRow, [row], [{}])
    image = np.random.RandomState(0).rand(3, 32, 32)
    records.write_pictures(folder, [Picture("euler", "relu", 1, 0.0, 0.5, "made up", *[image] * 3)])
    return recorded


def drawn(suite, cwd, **settings):
    """The bytes of each figure, drawn by a process of its own in an empty folder."""
    folder, names = suite
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **settings}
    cwd.mkdir()
    command = [sys.executable, "-c", DRAW, str(folder), *names]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [*cwd.iterdir()]
    return {file.name: file.read_bytes() for file in folder.parent.glob("*/figures/*")}


def test_figures_are_the_same_bytes_whatever_the_users_settings(suite, tmp_path):
    hostile = tmp_path / "matplotlibrc"
    settings = {**FLIPPED, **OTHERS}
    hostile.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    empty = tmp_path / "empty"
    empty.write_text("")
    usual = drawn(suite, tmp_path / "a", MATPLOTLIBRC=str(empty), MPLBACKEND="")
    assert len([name for name in usual if name.endswith(".png")]) == 4
    changed = drawn(suite, tmp_path / "b", MATPLOTLIBRC=str(hostile), MPLBACKEND="nonsense")
    assert changed.keys() == usual.keys()
    assert [name for name in usual if changed[name] != usual[name]] == []
