"""A grid of panels: a row for each scheme, a column for each network."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots import style


def grid(
    rows: pd.DataFrame, *, x: str, y: str, row_height: float = 1.7, **shared: bool
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """The figure, and each panel with the rows that belong into it.

    x and y are the axes' labels; row_height is in inches; shared goes to `style.subplots`.
    """
    networks, methods = list(rows["network"].unique()), list(rows["method"].unique())
    figure, axes = style.subplots(
        len(methods),
        len(networks),
        figsize=(style.width(len(networks)), 1.0 + row_height * len(methods)),
        **shared,
    )
    for j, network in enumerate(networks):
        axes[0, j].set_title(style.network_name(network))
        axes[-1, j].set_xlabel(x)
    for i, method in enumerate(methods):
        axes[i, 0].set_ylabel(f"{style.method_name(method)}\n{y}")
    return figure, [
        (axes[i, j], rows[(rows["network"] == network) & (rows["method"] == method)])
        for i, method in enumerate(methods)
        for j, network in enumerate(networks)
    ]
