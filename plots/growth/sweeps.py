"""The sweeps of the suite `growth`, and its rows as the figures and tables use them."""

import pandas as pd

from plots import drawing, labels

SWEEPS = {
    "Nt": ("n_steps", "steps per block, Nt"),
    "batch size": ("batch_size", "batch size"),
    "width": ("width", "width (channels)"),
}
"""Sweep → the column that differs, and the axis's label."""


def by_network(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of steps that fitted into memory, with more columns.

    shown: the network, ResNet-4 for its other widths too. milliseconds, fastest and slowest: median
    and quartiles of the quotient with the reference step, times that step's median over all points,
    which removes the machine's drift. mebibytes.
    """
    fitted = rows[rows["status"] == "ok"]
    is_wide = fitted["network"].str.startswith(labels.WIDE)
    usual = 1000 * fitted["reference_seconds"].median()
    return fitted.assign(
        shown=fitted["network"].mask(is_wide, "resnet4"),
        milliseconds=fitted["relative"] * usual,
        fastest=fitted["low"] * usual,
        slowest=fitted["high"] * usual,
        mebibytes=fitted["peak_bytes"] / drawing.MEBIBYTE,
    )


def drift(rows: pd.DataFrame) -> float:
    """The reference step's time at the machine's slowest point ÷ that at its fastest."""
    return float(rows["reference_seconds"].max() / rows["reference_seconds"].min())


def held_fixed(rows: pd.DataFrame) -> str:
    """The values that all points of a sweep share, in words."""
    n_steps, sizes = rows["n_steps"].unique(), rows["batch_size"].unique()
    fixed = [f"Nt = {n_steps[0]}"] if len(n_steps) == 1 else []
    return ", ".join([*fixed, f"{sizes[0]} images"] if len(sizes) == 1 else fixed)
