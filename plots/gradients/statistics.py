"""What the backward pass does to BatchNorm's running statistics, against the number of steps."""

from pathlib import Path

import pandas as pd

from plots.gradients.order import Quantity, draw_quantity, own_networks

STATISTICS = Quantity(
    "statistics",
    "statistics moved by",
    "Relative distance of BatchNorm's running statistics, after both passes, from what backprop "
    "leaves",
    "gradient_statistics",
    has_order=False,
)


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """In double precision and on trained weights, whose statistics have settled: those of an
    untrained network move in every pass, forward ones too."""
    rows = own_networks(rows)
    settled = (rows["precision"] == "float64") & (rows["weights"] == "trained")
    return draw_quantity(rows[settled], STATISTICS, folder)
