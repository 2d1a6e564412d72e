"""Laws of the growth of peak memory with blocks and steps, with fitted coefficients."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from plots import labels, markdown

TERMS = ("1", "L", "Nt", "L·Nt")
SMALL = 0.1
"""Coefficients below this number of states are left out of a law."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the coefficients as laws.csv, and a summary as laws.md."""
    chain = chains(rows)
    table = fit(chain)
    if table.empty:
        return []
    paragraphs = _markdown(table, chain[chain["n_steps"] > 1])
    return markdown.write(folder, "laws", paragraphs, {"laws": table})


def chains(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of ResNet-4 with one and with more ODE blocks."""
    chain = (rows["network"] == "resnet4") | rows["network"].str.startswith(labels.CHAIN)
    return rows[chain & ~rows["gradient"].str.contains("anode-revolve:")]


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """For each method × gradient method: peak = a + b·L + c·Nt + d·L·Nt, in states.

    For anode-revolve m = ⌈log₂ Nt⌉ replaces Nt, as it keeps m states. Least squares in the relative
    error over all L and all Nt > 1 (a single step has nothing to checkpoint); misfit: the largest
    relative error. All states have one size, so that coefficients are numbers of states.
    """
    found = []
    for (method, gradient), own in rows.groupby(["method", "gradient"], sort=False):
        own = own[own["n_steps"] > 1]
        if own["n_blocks"].nunique() < 2 or own["n_steps"].nunique() < 2:
            continue
        blocks, steps = own["n_blocks"].to_numpy(float), own["n_steps"].to_numpy(float)
        is_revolve = gradient == "anode-revolve"
        if is_revolve:
            steps = np.ceil(np.log2(steps))
        peak = (own["peak_bytes"] / own["state_bytes"]).to_numpy(float)
        terms = np.stack([np.ones_like(blocks), blocks, steps, blocks * steps], axis=1)
        solved, *_ = np.linalg.lstsq(terms / peak[:, None], np.ones_like(peak), rcond=None)
        misfit = float(np.abs(terms @ solved / peak - 1).max())
        found.append(
            {
                "method": method,
                "gradient": gradient,
                **dict(zip(TERMS, solved.tolist(), strict=True)),
                "misfit": misfit,
                "law": _law(solved, "log Nt" if is_revolve else "Nt"),
            }
        )
    return pd.DataFrame(found)


def _law(coefficients: np.ndarray, steps: str) -> str:
    _, of_blocks, of_steps, of_both = coefficients
    if of_both > SMALL:
        return f"O(L·{steps})"
    own = [name for name, value in (("L", of_blocks), (steps, of_steps)) if value > SMALL]
    return f"O({' + '.join(own) or '1'})"


def _markdown(table: pd.DataFrame, chain: pd.DataFrame) -> Iterator[str]:
    first = chain.iloc[0]
    columns: markdown.Columns = {
        "scheme": lambda row: labels.method(row["method"]),
        "gradient method": lambda row: labels.gradient(row["gradient"]),
        **{term: markdown.value(term, "z.2f") for term in TERMS},
        "misfit": markdown.value("misfit", ".1%"),
        "law": lambda row: row["law"],
    }
    yield (
        "Peak memory of one training step of ResNet-4 with L ODE blocks, "
        f"{int(first['batch_size'])} images, in states (one state is {first['state_bytes']:,} "
        f"bytes); {labels.how_counted(first['device'])}.\n"
        f"Fitted to L = {markdown.listed(chain['n_blocks'])} and Nt = "
        f"{markdown.listed(chain['n_steps'])}; the misfit is the largest relative error. For ANODE "
        "with binomial checkpoints, m = ⌈log₂ Nt⌉ replaces Nt."
    )
    yield markdown.table(columns, table.to_dict("records"))
