"""Style of the figures: settings, sizes for a paper, colours that the colour-blind distinguish."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9
"""Widths of a paper's figures in inches."""

# Okabe & Ito (2008) and Tol's muted scheme. Red for Neural ODE and blue for ANODE, as in the
# published figures; related methods have related colours.
LOOKS = {
    "baseline": ("#555555", "v"),
    "node": ("#D55E00", "X"),
    "anode": ("#0072B2", "o"),
    "backprop": ("#009E73", "s"),
    "anode-auto": ("#000000", "*"),
    "anode-steps": ("#56B4E9", "D"),
    "anode-revolve": ("#332288", "d"),
    "symplectic": ("#117733", "<"),
    "mixed": ("#6699CC", "H"),
    "reversible": ("#CC79A7", "P"),
    "node-grid": ("#E69F00", "h"),
    "node-frozen": ("#882255", "^"),
    "node-grid-frozen": ("#CC6677", "v"),
    "node-stages": ("#BB5566", "D"),
    "node-rk45": ("#999933", ">"),
    "anode-rk45": ("#004488", ">"),
    "backprop-rk45": ("#225522", ">"),
    "backprop-torchdiffeq": ("#44AA99", "p"),
    "bench.peers.original:ORIGINAL": ("#117733", "v"),
    "bench.peers.torch_checkpoint:BLOCK": ("#AA4499", "v"),
    "bench.peers.torch_checkpoint:STEPS": ("#AA4499", "^"),
    "bench.peers.with_torchode:BACKPROP": ("#88CCEE", "<"),
    "bench.peers.with_torchode:ADJOINT": ("#88CCEE", ">"),
    "bench.peers.with_torchdyn:BACKPROP": ("#DDCC77", "<"),
    "bench.peers.with_torchdyn:ADJOINT": ("#DDCC77", ">"),
    "bench.peers.with_diffrax:RECURSIVE": ("#661100", "<"),
    "bench.peers.with_diffrax:BACKSOLVE": ("#661100", ">"),
}
"""Gradient method → colour and marker: one colour for a library, one direction for a kind."""
_OTHER = (("#117733", "v"), ("#AA4499", "^"), ("#88CCEE", "<"))
_LINES = {"baseline": (0, (1, 1)), "node": (0, (4, 1.5)), "anode": "solid"}
_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "axes.grid": True,
    "grid.color": "0.92",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.hashsalt": "anode-bench",  # the same picture gives the same file
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters stay text
}


@contextmanager
def applied() -> Iterator[None]:
    """A context with matplotlib's defaults and this style, without the user's matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="ticks", font="DejaVu Sans", rc=_SETTINGS)
        yield


def colour(gradient: str, others: Sequence[str] = ()) -> str:
    """A gradient method's colour; methods of `others` without an entry get different ones."""
    return _look(gradient, others)[0]


def line(gradient: str) -> Any:
    """A gradient method's line style, which distinguishes it in print without colour."""
    return _LINES.get(gradient, (0, (6, 1, 1, 1)))


def curve(gradient: str, others: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments of a gradient method's curve. With a parameter it is dotted and hollow."""
    (own, marker), varied = _look(gradient, others), "=" in gradient
    wide = gradient in _LINES
    return {
        "color": own,
        "linestyle": (0, (1, 1.2)) if varied else line(gradient),
        "linewidth": 2.0 if wide else 1.2,
        "marker": marker,
        "markersize": 6.0 if marker == "*" else 4.2,
        "markerfacecolor": "white" if varied else own,
        "markeredgecolor": own if varied else "white",
        "markeredgewidth": 0.8 if varied else 0.3,
        "zorder": 1.7 if line(gradient) == "solid" else 1.8 if wide else 2.0,  # dashes on top
    }


def width(panels: int) -> float:
    """The width in inches of a figure with this number of panels side by side."""
    return ONE_COLUMN if panels == 1 else TWO_COLUMNS


def _look(gradient: str, others: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of a gradient method, or of the method without its parameters."""

    def entry(name: str) -> tuple[str, str] | None:
        return LOOKS.get(name, LOOKS.get(name.partition(":")[0]))

    rest = [other for other in others or [gradient] if not entry(other)]
    return entry(gradient) or _OTHER[rest.index(gradient) % len(_OTHER)]
