"""How all figures look: sizes for a paper, colours that the colour-blind can tell apart."""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from bench.records.files import write_whole
from plots.conditions import caveat

ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0
"""Widths of a paper's figures in inches."""

NETWORK_NAMES = {
    "alexnet": "AlexNet",
    "resnet4": "ResNet-4",
    "resnet10": "ResNet-10",
    "squeezenext": "SqueezeNext",
    "resnet18": "ResNet-18",
}
GRADIENT_NAMES = {
    "baseline": "Baseline (residual network)",
    "node": "Neural ODE (continuous adjoint)",
    "anode": "ANODE (checkpointed, exact)",
    "backprop": "Backprop (store everything)",
    "anode-steps": "ANODE, a checkpoint a step",
    "anode-revolve": "ANODE, binomial checkpoints",
    "reversible": "Reversible (McCallum & Foster)",
    "node-grid": "Neural ODE, step states restored",
    "node-stages": "Neural ODE, forward stage states",
    "node-frozen": "Neural ODE, BatchNorm frozen",
    "node-grid-frozen": "Neural ODE, step states restored, BatchNorm frozen",
    "node-rk45": "Neural ODE, adaptive RK45",
    "anode-rk45": "ANODE, adaptive RK45",
    "backprop-torchdiffeq": "Backprop through torchdiffeq",
    "anode-auto": "ANODE, planned",
    "symplectic": "Symplectic adjoint",
}
METHOD_NAMES = {"euler": "Euler", "rk2": "RK2", "rk4": "RK4", "rk4_38": "RK4 (3/8 rule)"}
ACTIVATION_NAMES = {
    "none": "no activation",
    "relu": "ReLU",
    "leaky_relu": "Leaky ReLU",
    "softplus": "Softplus",
    "tanh": "tanh",
}
PEER_NAMES = {
    "bench.peers.original:ORIGINAL": "ANODE, as its code was published",
    "bench.peers.torch_checkpoint:BLOCK": "torch.utils.checkpoint, block",
    "bench.peers.torch_checkpoint:STEPS": "torch.utils.checkpoint, steps",
    "bench.peers.with_torchode:BACKPROP": "torchode, backprop",
    "bench.peers.with_torchode:ADJOINT": "torchode, continuous adjoint",
    "bench.peers.with_torchdyn:BACKPROP": "torchdyn, backprop",
    "bench.peers.with_torchdyn:ADJOINT": "torchdyn, continuous adjoint",
    "bench.peers.with_diffrax:RECURSIVE": "diffrax, recursive checkpoints",
    "bench.peers.with_diffrax:BACKSOLVE": "diffrax, continuous adjoint",
}
SHORT_NAMES = {"baseline": "Baseline", "node": "Neural\nODE", "anode": "ANODE"}

# Okabe & Ito (2008) and Tol's muted scheme. Red for Neural ODE and blue for ANODE, as in the
# published figures; what is related to them has a colour that is.
_COLOURS = {
    "baseline": "#555555",
    "node": "#D55E00",
    "anode": "#0072B2",
    "backprop": "#009E73",
    "anode-auto": "#000000",
    "anode-steps": "#56B4E9",
    "anode-revolve": "#332288",
    "reversible": "#CC79A7",
    "node-grid": "#E69F00",
    "node-frozen": "#882255",
    "node-grid-frozen": "#CC6677",
    "node-rk45": "#999933",
    "backprop-torchdiffeq": "#44AA99",
}
_PEER_LOOKS = {
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
"""Colour and marker: one colour for a library, one direction for a kind."""
_OTHER_COLOURS = ("#117733", "#AA4499", "#88CCEE")
_LINES = {"baseline": (0, (1, 1)), "node": (0, (4, 1.5)), "anode": "solid"}


_MARKERS = {"backprop": "s", "anode": "o", "node": "X", "anode-steps": "D", "anode-auto": "*"}
_MARKERS |= {"reversible": "P", "anode-revolve": "d", "backprop-torchdiffeq": "p"}

CHAIN = "models.resnet:CHAIN:blocks="
"""How the suite `memory` names ResNet-4 with several ODE blocks."""
WIDE = "models.resnet:CHAIN:width="
"""How the suite `growth` names ResNet-4 with so many channels."""


@contextmanager
def drawing() -> Iterator[None]:
    """A context in which figures are drawn and saved: matplotlib's defaults and this style,
    whatever the user's matplotlibrc sets."""
    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="ticks", font="DejaVu Sans", rc=_SETTINGS)
        yield


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
}


def subplots(
    rows: int,
    columns: int,
    *,
    figsize: tuple[float, float],
    layout: Any = "constrained",
    **shared: Any,
) -> tuple[Figure, Any]:
    """A figure, figsize in inches, and its axes (rows, columns), without pyplot and its backends.

    shared: sharex and sharey, as `Figure.subplots` takes them.
    """
    figure = Figure(figsize=figsize, layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def colour(gradient: str, others: list[str] | None = None) -> str:
    """A gradient method's colour; `others` lists all that are drawn, of which those that have no
    colour of their own get different ones."""
    own = _own_colour(gradient)
    if own:
        return own
    rest = [other for other in others or [gradient] if not _own_colour(other)]
    return _OTHER_COLOURS[rest.index(gradient) % len(_OTHER_COLOURS)]


def _own_colour(gradient: str) -> str | None:
    if gradient in _PEER_LOOKS:
        return _PEER_LOOKS[gradient][0]
    return _COLOURS.get(gradient.partition(":")[0])


def line(gradient: str) -> Any:
    """A gradient method's line style, so that a print without colour can be read."""
    return _LINES.get(gradient, (0, (6, 1, 1, 1)))


def marker(gradient: str) -> str:
    """A gradient method's marker."""
    if gradient in _PEER_LOOKS:
        return _PEER_LOOKS[gradient][1]
    return _MARKERS.get(gradient.partition(":")[0], "v")


def curve(gradient: str, others: list[str]) -> dict[str, Any]:
    """How a gradient method's measured points are drawn and joined."""
    return {
        "color": colour(gradient, others),
        "linestyle": line(gradient),
        "marker": "o",
        "markersize": 2.5,
        # What others lie upon is seen beside them.
        "linewidth": 3.0 if gradient in _LINES else 1.2,
        "zorder": 1.8 if gradient in _LINES else 2.0,
    }


def marked_curve(gradient: str, others: list[str]) -> dict[str, Any]:
    """The same where many methods stand close together: each has its own marker as well. One that
    is a method with a parameter is dotted and hollow."""
    own = colour(gradient, others)
    is_varied = "=" in gradient
    return {
        "color": own,
        "linestyle": (0, (1, 1.2)) if is_varied else line(gradient),
        "linewidth": 2.2 if gradient in _LINES else 1.1,
        "marker": marker(gradient),
        "markersize": 6.0 if marker(gradient) == "*" else 4.5 if gradient in _LINES else 3.8,
        "markerfacecolor": "white" if is_varied else own,
        "markeredgecolor": own if is_varied else "white",
        "markeredgewidth": 0.8 if is_varied else 0.3,
        "zorder": 1.8 if gradient in _LINES else 2.0,
    }


def ticks(axis: Axis, at: Iterable[float]) -> None:
    """Label these values, and nothing else."""
    values = list(at)
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    axis.set_minor_locator(NullLocator())


def one_two_five(values: "pd.Series[float]") -> list[float]:
    """1, 2, 5, 10, … as far as the values go; fewer where they span many decades."""
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 100 * low else (1,)
    return [
        step * 10.0**decade
        for decade in decades
        for step in steps
        if low / 1.3 <= step * 10.0**decade <= high * 1.3
    ]


def other_schemes(gradients: Iterable[str]) -> str:
    """For the small print: which methods are compared with another scheme's gradient."""
    names = [gradient_name(g) for g in gradients if g.partition(":")[0] in _OTHER_SCHEMES]
    if not names:
        return ""
    return f" {' and '.join(names)}: another discretisation, so a distance and no error."


_OTHER_SCHEMES = ("reversible", "node-rk45")


def how_counted(device: str) -> str:
    """What peak memory means on a device, for a figure's small print."""
    return "the allocator's peak" if device == "cuda" else "live tensor bytes, counted exactly"


def width(panels: int) -> float:
    """The width, in inches, of a figure with so many panels side by side."""
    return ONE_COLUMN if panels == 1 else TWO_COLUMNS


def network_name(network: str) -> str:
    if network.startswith(CHAIN):
        return f"ResNet-4, {network.removeprefix(CHAIN)} ODE blocks"
    return NETWORK_NAMES.get(network, network)


def method_name(method: str) -> str:
    return METHOD_NAMES.get(method, method)


def gradient_name(gradient: str) -> str:
    base, _, parameters = gradient.partition(":")
    name = GRADIENT_NAMES.get(base)
    if gradient in PEER_NAMES:
        return PEER_NAMES[gradient]
    if name is None:
        return gradient
    return f"{name} ({parameters.replace(':', ', ')})" if parameters else name


def short_name(gradient: str) -> str:
    return SHORT_NAMES.get(gradient, gradient)


def legend(
    figure: Figure,
    gradients: list[str],
    *,
    markers: bool = False,
    marked: bool = False,
    filled: bool = False,
) -> None:
    """One legend for all panels, below them: lines, or markers where there are no lines, or both
    where there are marked curves, or filled boxes where there are bars."""
    handles = [
        Patch(color=colour(g, gradients))
        if filled
        else Line2D([], [], **marked_curve(g, gradients))
        if marked
        else Line2D([], [], color=colour(g, gradients), linestyle="none", marker=marker(g))
        if markers
        else Line2D([], [], color=colour(g, gradients), linestyle=line(g), linewidth=1.6)
        for g in gradients
    ]
    figure.legend(
        handles,
        [gradient_name(gradient) for gradient in gradients],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=_legend_columns(figure),
        handlelength=1 if filled else 3,
    )


def footnote(figure: Figure, text: str) -> None:
    """Small print under everything: what the figure was drawn from, and what that does not
    share."""
    figure.draw_without_rendering()  # how high a legend is, is known then
    height = figure.bbox.height
    lowest = min((legend.get_window_extent().y0 for legend in figure.legends), default=0.0)
    figure.text(
        0.5,
        lowest / height - 0.08 / figure.get_figheight(),
        textwrap.fill(text + caveat(), int(figure.get_figwidth() * 23), break_on_hyphens=False),
        ha="center",
        va="top",
        fontsize=6,
        color="0.35",
    )


def _legend_columns(figure: Figure) -> int:
    return 3 if figure.get_figwidth() > ONE_COLUMN else 1


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png and NAME.svg, each complete or not at all."""
    files = [folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
    for file in files:
        metadata = {"Date": None} if file.suffix == ".svg" else None
        drawn = io.BytesIO()
        figure.savefig(drawn, format=file.suffix[1:], bbox_inches="tight", metadata=metadata)
        write_whole(file, drawn.getvalue())
    return files
