"""Figures of curves: a grid of panels with a curve for each gradient method."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from plots import drawing, labels, series
from plots.drawing import Facet


def draw(
    rows: pd.DataFrame,
    folder: Path,
    name: str,
    *,
    x: tuple[str, str],
    y: tuple[str, str],
    caption: str,
    finish: Callable[[Axes, pd.DataFrame], None],
    across: Facet = ("network", labels.network),
    down: Facet = ("method", labels.method),
    title: str = "",
    log: str = "xy",
    **layout: Any,
) -> list[Path]:
    """Draw the column of y against that of x, in as many figures of six curves as it needs.

    x and y: the column and the axis's label. finish: sets a panel's ticks, called with the panel
    and its rows. across, down and layout: as `drawing.grid` takes them.
    """
    files: list[Path] = []
    groups = series.coinciding(rows, [y[0]], [across[0], down[0], x[0]])
    for suffix, page in series.pages(groups):
        figure, panels = drawing.grid(rows, x=x[1], y=y[1], across=across, down=down, **layout)
        for axis, chosen in panels:
            series.plot(axis, chosen, x[0], y[0], page, log=log)
            finish(axis, chosen)
        if title:
            figure.suptitle(title, fontsize=9)
        drawing.legend(figure, series.entries(page))
        drawing.caption(figure, caption)
        files += drawing.save(figure, folder, name + suffix)
    return files
