"""Gradient errors as a table: every Nt, and the observed order of convergence."""

from pathlib import Path

import pandas as pd

from bench.records.files import write_whole
from plots import style
from plots.gradients.order import EXACT, observed_order, own_networks


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """errors.csv, and errors.md for people: first what is exact, and then how wrong the others
    are in double precision; varied.csv: the same where activation or scale are varied."""
    every = rows[rows["part"] == "all parameters"]
    whole = own_networks(every)
    table = summarise(whole)
    csv, markdown, varied = (folder / name for name in ("errors.csv", "errors.md", "varied.csv"))
    write_whole(csv, table.to_csv(index=False))
    write_whole(markdown, _markdown(whole, table))
    others = every.drop(whole.index)
    columns = ["network", "method", "n_steps", "gradient", "activation", "scale"]
    write_whole(varied, others[[*columns, "lipschitz", "error", "cosine"]].to_csv(index=False))
    return [csv, markdown, varied]


def summarise(whole: pd.DataFrame) -> pd.DataFrame:
    """A row for each network × scheme × gradient method × precision × weights: the error in all
    parameters at each Nt (columns named by it), and the observed order."""
    found = []
    keys = ["network", "method", "gradient", "precision", "weights"]
    for values, part in whole.groupby(keys, sort=False):
        errors = part.set_index("n_steps")["error"].sort_index()
        is_exact = errors.max() <= EXACT[str(values[3])]
        # The distance from another scheme's solution, which Nt does not refine, has no order.
        order = None if is_exact or str(values[2]).startswith("node-rk45") else observed_order(part)
        found.append({**dict(zip(keys, values, strict=True)), **errors.to_dict(), "order": order})
    return pd.DataFrame(found)


def _markdown(whole: pd.DataFrame, table: pd.DataFrame) -> str:
    steps = sorted(whole["n_steps"].unique())
    lines = [
        "Relative error of the gradient in all parameters against backprop with the same scheme; "
        "generated images, training mode.",
        "",
        "| gradient method | precision | measurements | bit for bit | largest error |",
        "|---|---|---|---|---|",
    ]
    for (gradient, precision), part in whole.groupby(["gradient", "precision"], sort=False):
        equal = int((part["error"] == 0).sum())
        lines.append(
            f"| {style.gradient_name(str(gradient))} | {precision} | {len(part)} | {equal} | "
            f"{part['error'].max():.2g} |"
        )
    for weights in whole["weights"].unique():
        chosen = table[(table["precision"] == "float64") & (table["weights"] == weights)]
        largest = chosen.groupby("gradient")[steps].max().max(axis=1)
        inexact = chosen[chosen["gradient"].map(largest) > EXACT["float64"]]
        lines += [
            "",
            f"In double precision, {weights} weights, those that are not exact:",
            "",
            "| network | scheme | gradient method | "
            + " | ".join(f"Nt = {n}" for n in steps)
            + " | order |",
            "|" + "---|" * (len(steps) + 4),
        ]
        for row in inexact.to_dict("records"):
            cells = " | ".join(f"{row[n]:.2g}" for n in steps)
            order = "–" if pd.isna(row["order"]) else f"{row['order']:.1f}"
            lines.append(
                f"| {style.network_name(row['network'])} | {style.method_name(row['method'])} | "
                f"{style.gradient_name(row['gradient'])} | {cells} | {order} |"
            )
    return "\n".join([*lines, ""])
