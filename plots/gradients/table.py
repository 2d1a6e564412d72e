"""Gradient errors as a table: every Nt, and the observed order of convergence."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from plots import labels, markdown
from plots.gradients.errors import ROUNDING, observed_order, unmodified_networks


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write errors.csv; errors.md, which says what is exact and how large the other errors are in
    double precision; varied.csv, the same where activation or scale are varied."""
    every = rows[rows["part"] == "all parameters"]
    unmodified = unmodified_networks(every)
    table = summarise(unmodified)
    columns = ["network", "method", "n_steps", "gradient", "activation", "scale"]
    varied = every.drop(unmodified.index)[[*columns, "lipschitz", "error", "cosine"]]
    tables = {"errors": table, "varied": varied}
    return markdown.write(folder, "errors", _markdown(unmodified, table), tables)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each network × scheme × gradient method × precision × weights: the error in all
    parameters at each Nt (columns named by it), and the observed order."""
    found = []
    keys = ["network", "method", "gradient", "precision", "weights"]
    for values, part in rows.groupby(keys, sort=False):
        errors = part.set_index("n_steps")["error"].sort_index()
        is_exact = errors.max() <= ROUNDING[str(values[3])]
        is_adaptive = "rk45" in str(values[2])  # Nt is not used
        order = None if is_exact or is_adaptive else observed_order(part)
        found.append({**dict(zip(keys, values, strict=True)), **errors.to_dict(), "order": order})
    return pd.DataFrame(found)


def _markdown(rows: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    yield (
        "Relative error of the gradient in all parameters against backprop with the same scheme; "
        "generated images, training mode."
    )
    yield markdown.table(
        {
            "gradient method": lambda row: labels.gradient(row.gradient),
            "precision": lambda row: row.precision,
            "measurements": lambda row: row.measurements,
            "bit for bit": lambda row: row.equal,
            "largest error": lambda row: f"{row.largest:.2g}",
        },
        rows.assign(zero=rows["error"] == 0)
        .groupby(["gradient", "precision"], sort=False, as_index=False)
        .agg(measurements=("error", "size"), equal=("zero", "sum"), largest=("error", "max")),
    )
    steps = sorted(rows["n_steps"].unique())
    columns: markdown.Columns = {
        "network": lambda row: labels.network(row["network"]),
        "scheme": lambda row: labels.method(row["method"]),
        "gradient method": lambda row: labels.gradient(row["gradient"]),
        **{f"Nt = {n}": markdown.value(n, ".2g") for n in steps},
        "order": markdown.value("order", ".1f"),
    }
    for weights in rows["weights"].unique():
        chosen = table[(table["precision"] == "float64") & (table["weights"] == weights)]
        largest = chosen.groupby("gradient")[steps].max().max(axis=1)
        inexact = chosen[chosen["gradient"].map(largest) > ROUNDING["float64"]]
        yield f"In double precision, {weights} weights, those that are not exact:"
        yield markdown.table(columns, inexact.to_dict("records"))
