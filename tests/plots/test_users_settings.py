"""A user's settings of matplotlib change no figure."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from bench import records
from bench.records import Picture, ReversalRow
from tests.plots.test_figures import recorded  # noqa: F401

ROOT = Path(__file__).parents[2]
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


def test_figures_are_the_same_bytes_whatever_the_users_settings(suite, tmp_path, monkeypatch):
    folder, names = suite

    def drawn():
        return {file.name: file.read_bytes() for file in folder.parent.glob("*/figures/*")}

    monkeypatch.setattr(sys, "argv", ["", str(folder), *names])
    exec(DRAW, {})
    usual = drawn()
    assert len([name for name in usual if name.endswith(".png")]) == 4
    for file in folder.parent.glob("*/figures/*"):
        file.unlink()
    hostile, empty = tmp_path / "matplotlibrc", tmp_path / "empty"
    settings = {**FLIPPED, **OTHERS}
    hostile.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    empty.mkdir()
    path = os.pathsep.join([str(ROOT), *sys.path])
    own = {"PYTHONPATH": path, "MATPLOTLIBRC": str(hostile), "MPLBACKEND": "nonsense"}
    command = [sys.executable, "-c", DRAW, *sys.argv[1:]]
    subprocess.run(command, cwd=empty, env={**os.environ, **own}, check=True)
    assert not [*empty.iterdir()]
    changed = drawn()
    assert changed.keys() == usual.keys()
    assert [name for name in usual if changed[name] != usual[name]] == []
