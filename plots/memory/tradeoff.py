"""Peak memory against recomputation: what each gradient method makes of the same block."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from plots import style

MIB = 2**20
NONE = 0.7
"""Where, on the logarithmic axis, "0" stands: at so much of Nt."""


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """anode-revolve with every number m of checkpoints, and beside it the other methods."""
    revolved = rows[rows["gradient"].str.contains("anode-revolve:")]
    if revolved.empty:
        return []
    style.begin()
    first = revolved.iloc[-1]
    network, method, n_steps = first["network"], first["method"], int(first["n_steps"])
    same = rows[(rows["network"] == network) & (rows["method"] == method)]
    same = same[same["n_steps"] == n_steps]
    same = recomputation(same)
    line = same[same["m"].notna()].sort_values("m")
    # An adaptive solver takes as many steps as it likes, not Nt.
    others = same[~same["gradient"].str.match("anode-revolve|node-rk45")]
    figure, axis = plt.subplots(figsize=(style.TWO_COLUMNS * 0.75, 3.0), layout="constrained")
    axis.plot(
        line["again"],
        line["peak_bytes"] / MIB,
        color=style.colour("anode-revolve"),
        marker=style.marker("anode-revolve"),
        markersize=4,
        linewidth=1,
        zorder=2,
    )
    for m in (1, 2, 4, 8, 16, n_steps):
        for row in line[line["m"] == m].itertuples():
            axis.annotate(
                f"m = {m}",
                (row.again, row.peak_bytes / MIB),
                xytext=(3, 4),
                textcoords="offset points",
                fontsize=6.5,
                color=style.colour("anode-revolve"),
            )
    for row in others.itertuples():
        axis.plot(
            max(row.again, NONE * n_steps),
            row.peak_bytes / MIB,
            marker=style.marker(row.gradient),
            color=style.colour(row.gradient),
            linestyle="none",
            markersize=6,
            zorder=3,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    at = style.one_two_five(line["again"])
    style.ticks(axis.xaxis, [NONE * n_steps, n_steps, *(value for value in at if value > n_steps)])
    axis.set_xticklabels(["0", *axis.get_xticklabels()[1:]])
    style.ticks(axis.yaxis, style.one_two_five(same["peak_bytes"] / MIB))
    axis.set_xlabel("steps in the backward pass, beside the differentiation (0 is set apart)")
    axis.set_ylabel("peak memory (MiB)")
    style.legend(figure, ["anode-revolve", *others["gradient"]], markers=True)
    style.footnote(
        figure,
        f"{style.network_name(network)}, {style.method_name(method)}, Nt = {n_steps}, one "
        f"training step of {int(first['batch_size'])} images; "
        f"{style.how_counted(first['device'])}. m: states that anode-revolve may keep. A step is "
        "as many evaluations of the right-hand side as the scheme has stages.",
    )
    return style.save(figure, folder, "memory_tradeoff")


def recomputation(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with two columns more: m, and `again`, the evaluations of the backward pass in
    steps of the scheme."""
    m = rows["gradient"].str.extract(r":m=(\d+)", expand=False).astype(float)
    stages = rows["nfe_forward"][m.notna()].iloc[0] / rows["n_steps"].iloc[0]
    return rows.assign(m=m, again=rows["nfe_backward"] / stages)
