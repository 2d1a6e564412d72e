"""Curves of gradient methods: those that coincide are one curve, and a figure has at most six."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from plots import labels, style
from plots.drawing import Entry

Group = tuple[str, ...]
"""Gradient methods whose curves coincide in every panel of a figure."""

MOST = 6
KEPT = ("anode", "node")
"""Methods that every further figure shows again, for comparison."""
SAME = 0.01
"""Relative difference below which values of two curves are drawn as one."""
OVERLAPPING = 0.01
"""Distance, in heights of the panel, below which one curve hides another."""
_FIRST = ("baseline", "node", "anode", "backprop")
_RANKS = [*_FIRST, "", *(name for name in labels.GRADIENTS if name not in _FIRST)]
"""Order of importance; "" is the place of methods without an entry, a user's own."""


def coinciding(
    rows: pd.DataFrame,
    y: Sequence[str],
    by: Sequence[str],
    *,
    relative: float = SAME,
    absolute: float = 0.0,
) -> list[Group]:
    """Group the gradient methods whose values in the columns y agree at each value of `by`."""
    table = rows.groupby([*by, "gradient"], dropna=False)[[*y]].mean().unstack("gradient")
    values = {
        gradient: table.xs(gradient, axis=1, level="gradient").to_numpy(float)
        for gradient in rows["gradient"].unique()
    }
    groups: list[Group] = []
    for gradient, own in values.items():
        for i, group in enumerate(groups):
            if np.allclose(own, values[group[0]], relative, absolute, equal_nan=True):
                groups[i] = (*group, gradient)
                break
        else:
            groups.append((gradient,))
    return groups


def pages(groups: Sequence[Group]) -> Iterator[tuple[str, list[Group]]]:
    """Divide groups among figures of at most six, the most important ones first.

    Yields what a figure's name ends in ("", "-2", …) and its groups, in the order given.
    """
    ranked = sorted(groups, key=_rank)
    first, left = ranked[:MOST], ranked[MOST:]
    kept = [group for group in first if {*group} & {*KEPT}]
    n_more = -(-len(left) // (MOST - len(kept)))
    more = [[*kept, *left[i::n_more]] for i in range(n_more)]
    for number, chosen in enumerate([first, *more] if groups else [], start=1):
        yield "" if number == 1 else f"-{number}", [group for group in groups if group in chosen]


def plot(
    axis: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    groups: Sequence[Group],
    spread: Callable[[pd.DataFrame], Any] = lambda rows: None,
    *,
    log: str = "xy",
    **looks: Any,
) -> None:
    """Draw one curve for each group. Curves that would hide each other in this panel are one line,
    whose dashes have their colours in turn; points are one mark inside another.

    spread: the error bars of a curve's rows, as `Axes.errorbar` takes them. log: the axes with a
    logarithmic scale. looks: replace a curve's entries of `style.curve`.
    """
    axis.set_xscale("log" if "x" in log else "linear")
    axis.set_yscale("log" if "y" in log else "linear")
    leaders = [group[0] for group in groups]
    own = rows[rows["gradient"].isin(leaders)]
    if own.empty:
        return
    height = own[y].astype(float).replace([np.inf, -np.inf], np.nan)
    height = np.log(height.where(height > 0)) if "y" in log else height
    near = OVERLAPPING * float(height.max() - height.min())
    heights = own.assign(height=height)
    for together in coinciding(heights, ["height"], [x], relative=0, absolute=near):
        for turn, gradient in enumerate(together):
            values = own[own["gradient"] == gradient].sort_values(x)
            look = {**style.curve(gradient, leaders), **looks}
            if len(together) > 1:
                nested = _nested if len(values) == 1 else _in_turn
                look |= nested(turn, len(together), look)
            axis.errorbar(values[x], values[y], yerr=spread(values), elinewidth=0.7, **look)


def _in_turn(turn: int, count: int, look: Mapping[str, Any]) -> dict[str, Any]:
    dash = 3.0
    pattern = (-turn * dash, (dash, dash * (count - 1)))
    return {"linestyle": pattern, "linewidth": 1.8, "markevery": (turn, count), "zorder": 2.1}


def _nested(turn: int, count: int, look: Mapping[str, Any]) -> dict[str, Any]:
    """The look of a point: the first one is the largest and lies below the others."""
    size = look["markersize"] * (count - turn)
    return {"markersize": size, "markevery": (0, 1), "zorder": 2.1 + turn / count}


def entries(groups: Sequence[Group], **looks: Any) -> list[Entry]:
    """The legend of curves: an entry for each group with all its names."""
    leaders = [group[0] for group in groups]
    return [
        (Line2D([], [], **{**style.curve(group[0], leaders), **looks}), name(group))
        for group in groups
    ]


def name(group: Group) -> str:
    """The names of gradient methods that coincide, a line each."""
    return "\n= ".join(textwrap.fill(labels.gradient(gradient), 36) for gradient in group)


def _rank(group: Group) -> float:
    def of(gradient: str) -> float:
        base, _, parameters = gradient.partition(":")
        if gradient in labels.PEERS:
            return len(_RANKS)
        rank = _RANKS.index(base if base in _RANKS else "")
        return rank + 0.5 * bool(parameters and base in _RANKS)

    return min(map(of, group))
