"""Change of BatchNorm's running statistics by the backward pass, against the number of steps."""

from pathlib import Path

import pandas as pd

from plots.gradients.errors import unmodified_networks
from plots.gradients.order import draw_against_steps


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """In double precision and on trained weights, whose statistics have settled: those of an
    untrained network move in every pass, forward passes included."""
    rows = unmodified_networks(rows)
    settled = (rows["precision"] == "float64") & (rows["weights"] == "trained")
    return draw_against_steps(
        rows[settled & (rows["part"] == "statistics")],
        folder,
        "gradient_statistics",
        label="statistics moved by",
        meaning="Relative distance of BatchNorm's running statistics, after both passes, from "
        "those after backprop; generated images, training mode.",
        has_order=False,
    )
