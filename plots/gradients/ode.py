"""Discrete and continuous gradients against that of the ODE, and the parts of their difference."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from plots import drawing, labels, markdown, style

DISTANCES = {
    "discrete": ("ANODE to the ODE", style.curve("anode")),
    "continuous": ("Neural ODE to the ODE", style.curve("node")),
    "difference": ("Neural ODE to ANODE", {"color": "#000000", "linestyle": (0, (1, 1))}),
}
SHARES = {
    "drift": ("drift from step to step", "#D55E00"),
    "reconstruction": ("reconstruction of the stages in a step", "#E69F00"),
    "inconsistency": ("inconsistency of the scheme", "#0072B2"),
}
TABLE_STEPS = 2
"""Nt of the table, where it was measured."""


def draw_distances(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each kind of weights and activation: a row for each scheme, a column for each
    network, and three distances against Nt."""
    files: list[Path] = []
    for name, title, part in _kinds(rows):
        figure, panels = drawing.grid(
            part, x="steps per block, Nt", y="distance / ‖g∞‖", sharex=True, sharey="col"
        )
        for axis, chosen in panels:
            for column, (_, look) in DISTANCES.items():
                axis.loglog(chosen["n_steps"], chosen[column], **look)
            drawing.ticks(axis.xaxis, sorted(part["n_steps"].unique()))
        figure.suptitle(title, fontsize=9)
        entries = [(Line2D([], [], **look), label) for label, look in DISTANCES.values()]
        drawing.legend(figure, entries)
        drawing.caption(
            figure,
            "Distances between gradients in all parameters over ‖g∞‖: backprop's (ANODE), that of "
            "the continuous adjoint with the same scheme (Neural ODE), and the ODE's, g∞, by RK4 "
            "with as many steps as the table says; float64, training mode.",
        )
        files += drawing.save(figure, folder, f"ode_distances-{name}")
    return files


def draw_shares(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """A figure for each kind of weights and activation: the shares of three causes in the error of
    the continuous adjoint, as bars that sum to 1."""
    files: list[Path] = []
    for name, title, part in _kinds(rows):
        steps = sorted(part["n_steps"].unique())
        figure, panels = drawing.grid(
            part, x="steps per block, Nt", y="share of the error", sharex=True, sharey=True
        )
        for axis, chosen in panels:
            at = [steps.index(n) for n in chosen["n_steps"]]
            above, below = np.zeros(len(at)), np.zeros(len(at))
            for column, (_, colour) in SHARES.items():
                share = chosen[column].to_numpy(float)
                bottom = np.where(share >= 0, above, below)
                axis.bar(at, share, bottom=bottom, color=colour, width=0.7, linewidth=0)
                above, below = above + share.clip(min=0), below + share.clip(max=0)
            axis.axhline(0, color="0.3", linewidth=0.6)
            axis.axhline(1, color="0.3", linewidth=0.6, linestyle=(0, (3, 3)))
            axis.set_xticks(range(len(steps)), [f"{n:g}" for n in steps])
        figure.suptitle(title, fontsize=9)
        drawing.legend(figure, [(Patch(color=c), label) for label, c in SHARES.values()])
        drawing.caption(
            figure,
            "Parts of e = g_node − g_discrete, as ⟨part, e⟩ / ‖e‖², which sum to 1: drift is "
            "g_node − g_node-grid, reconstruction g_node-grid − g_node-stages, inconsistency "
            "g_node-stages − g_discrete; all parameters, float64, training mode.",
        )
        files += drawing.save(figure, folder, f"ode_shares-{name}")
    return files


def draw_table(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ode_gradients.md: all numbers of one Nt."""
    n_steps = min(rows["n_steps"].unique(), key=lambda n: abs(n - TABLE_STEPS))
    columns: markdown.Columns = {
        "network": lambda row: labels.network(row["network"]),
        "weights": lambda row: row["weights"],
        "activation": lambda row: labels.activation(row["activation"]),
        "scheme": lambda row: labels.method(row["method"]),
        "‖g_discrete − g∞‖": markdown.value("discrete", ".2g"),
        "‖g_node − g∞‖": markdown.value("continuous", ".2g"),
        "‖g_node − g_discrete‖": markdown.value("difference", ".2g"),
        **{name: markdown.value(name, ".2f") for name in SHARES},
        "steps for g∞": lambda row: row["reference_steps"],
        "last change": markdown.value("reference_change", ".1e"),
    }
    table = markdown.table(columns, rows[rows["n_steps"] == n_steps].to_dict("records"))
    text = (
        f"Nt = {n_steps}. Distances over ‖g∞‖, the ODE's gradient by RK4; shares of drift, "
        "reconstruction and inconsistency in e = g_node − g_discrete, by projection on e."
    )
    return markdown.write(folder, "ode_gradients", [text, table], {})


def _kinds(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """File name, title and rows of each kind of weights and activation."""
    for (weights, activation), part in rows.groupby(["weights", "activation"], sort=False):
        title = f"{weights} weights, {labels.activation(str(activation))}"
        yield f"{weights}-{activation}", title, part.sort_values("n_steps", kind="stable")
