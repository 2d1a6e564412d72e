"""How peak memory grows with blocks and steps: the laws, with fitted coefficients."""

from pathlib import Path

import numpy as np
import pandas as pd

from bench.records.files import write_whole
from plots import style

TERMS = ("1", "L", "Nt", "L·Nt")
SMALL = 0.1
"""A coefficient below this many states, per unit, is not named in a law."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """laws.csv, with the coefficients, and laws.md, for people."""
    chain = chains(rows)
    table = fit(chain)
    if table.empty:
        return []
    csv, markdown = folder / "laws.csv", folder / "laws.md"
    write_whole(csv, table.to_csv(index=False))
    write_whole(markdown, _markdown(table, chain[chain["n_steps"] > 1]))
    return [csv, markdown]


def chains(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of ResNet-4 with one and with more ODE blocks."""
    chain = (rows["network"] == "resnet4") | rows["network"].str.startswith(style.CHAIN)
    return rows[chain & ~rows["gradient"].str.contains("anode-revolve:")]


def fit(rows: pd.DataFrame) -> pd.DataFrame:
    """For each method × gradient method: peak = a + b·L + c·Nt + d·L·Nt, in states.

    For anode-revolve, which keeps m = ⌈log₂ Nt⌉ states, m stands in the place of Nt. Least squares
    in the relative error over all L and all Nt > 1 (a single step has nothing to checkpoint);
    misfit is the largest relative error of a measured peak. The states of all blocks have one
    size, so the coefficients are numbers of states.
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


def _markdown(table: pd.DataFrame, chain: pd.DataFrame) -> str:
    first = chain.iloc[0]
    lines = [
        "Peak memory of one training step of ResNet-4 with L ODE blocks, "
        f"{int(first['batch_size'])} images, in states (one state is {first['state_bytes']:,} "
        f"bytes); {style.how_counted(first['device'])}.",
        f"Fitted to L = {_listed(chain['n_blocks'])} and Nt = {_listed(chain['n_steps'])}; the "
        "misfit is the largest relative error. For ANODE with binomial checkpoints m = ⌈log₂ Nt⌉ "
        "stands in the place of Nt.",
        "",
        "| scheme | gradient method | 1 | L | Nt | L·Nt | misfit | law |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        cells = " | ".join(f"{round(row[term], 2) + 0:.2f}" for term in TERMS)
        method = style.method_name(row["method"])
        lines.append(
            f"| {method} | {style.gradient_name(row['gradient'])} | {cells} | "
            f"{row['misfit']:.1%} | {row['law']} |"
        )
    return "\n".join([*lines, ""])


def _listed(values: "pd.Series[int]") -> str:
    return ", ".join(str(value) for value in sorted(values.unique()))
