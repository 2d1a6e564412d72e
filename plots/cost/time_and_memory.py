"""Time against memory of a training step, one point per gradient method."""

from pathlib import Path

import pandas as pd

from plots import style

_PANEL = ("network", "method", "n_steps", "layout", "execution")


def draw(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """For each scheme a figure, and another of the steps that are captured as CUDA graphs: a panel
    for each network. Filled: channels-last; hollow:
    contiguous. Everything is divided by what backprop needs in channels-last; dashed: the cost of
    running the forward pass again. The footnote names what is not drawn, and why."""
    whole = rows[rows["phase"] == "step"]
    measured = whole[whole["reason"] == ""].groupby(["method", "n_steps", "execution"]).groups
    return [
        file
        for (method, n_steps, how), part in whole.groupby(
            ["method", "n_steps", "execution"], sort=False
        )
        if (method, n_steps, how) in measured
        for file in _draw(part, rows, str(method), int(n_steps), str(how), folder)
    ]


def cost_of_running_again(rows: pd.DataFrame) -> float | None:
    """(2F + B) / (F + B): time of a step with its forward pass run twice, against one run once.

    F and B are backprop's median seconds forward and backward, in rows of one network, scheme,
    layout and execution. None where a step has no such parts, as when it is captured.
    """
    seconds = rows[rows["gradient"] == "backprop"].set_index("phase")["seconds"]
    if not {"forward", "backward"} <= set(seconds.index):
        return None
    return float(1 + seconds["forward"] / (seconds["forward"] + seconds["backward"]))


def _draw(
    rows: pd.DataFrame,
    phases: pd.DataFrame,
    method: str,
    n_steps: int,
    execution: str,
    folder: Path,
) -> list[Path]:
    first, left_out = rows.iloc[0], _left_out(rows)
    rows = rows[rows["peak_bytes"].notna()]
    networks, gradients = list(rows["network"].unique()), list(rows["gradient"].unique())
    columns = min(2, len(networks))
    lines = -(-len(networks) // columns)
    figure, axes = style.subplots(
        lines,
        columns,
        figsize=(style.width(columns), 0.6 + 2.3 * lines),
    )
    for axis in axes.flat[len(networks) :]:
        axis.remove()
    for axis, network in zip(axes.flat, networks, strict=False):
        own = rows[rows["network"] == network]
        base = own[(own["gradient"] == "backprop") & (own["layout"] == "channels_last")].iloc[0]
        axis.axvline(1, color="0.6", linewidth=0.8)
        same = (phases[list(_PANEL)] == base[list(_PANEL)]).all(axis=1)
        again = cost_of_running_again(phases[same])
        if again is not None:
            axis.axvline(again, color="0.6", linewidth=0.8, linestyle=(0, (4, 2)))
        for row in own.itertuples():
            colour = style.colour(row.gradient, gradients)
            spread = (row.seconds - row.low, row.high - row.seconds)
            axis.errorbar(
                row.seconds / base["seconds"],
                row.peak_bytes / base["peak_bytes"],
                xerr=[[part / base["seconds"]] for part in spread],
                marker=style.marker(row.gradient),
                markersize=5.5,
                color=colour,
                markerfacecolor=colour if row.layout == "channels_last" else "white",
                elinewidth=0.8,
                linestyle="none",
            )
        axis.set_title(style.network_name(network))
    for axis in axes[-1]:
        axis.set_xlabel("time ÷ backprop's")
    for axis in axes[:, 0]:
        axis.set_ylabel("peak memory ÷ backprop's")
    style.legend(figure, gradients, markers=True)
    style.footnote(
        figure,
        f"{style.method_name(method)}, Nt = {n_steps}, one {execution} training step of "
        f"{int(first['batch_size'])} images in {first['precision']} on {first['device']}; medians "
        "and quartiles of interleaved steps, divided by backprop's median. Hollow: "
        "contiguous layout. Dashed: a forward pass run again, 1 + F / (F + B) of backprop's own "
        f"seconds forward (F) and backward (B). {style.how_counted(first['device']).capitalize()}."
        + left_out,
    )
    suffix = "" if execution == "eager" else f"-{execution}"
    return style.save(figure, folder, f"cost_memory-{method}-nt{n_steps}{suffix}")


def _left_out(rows: pd.DataFrame) -> str:
    """What has no point, in words."""
    unseen = rows[(rows["reason"] == "") & rows["peak_bytes"].isna()]["gradient"].unique()
    names = ", ".join(style.gradient_name(gradient) for gradient in unseen)
    text = f" Not drawn, their memory is not measured: {names}." if names else ""
    failed = rows[rows["reason"] != ""].drop_duplicates(["gradient", "reason"])
    reasons = (f"{style.gradient_name(row.gradient)} ({row.reason})" for row in failed.itertuples())
    listed = "; ".join(reasons)
    return text + (f" Could not do the work: {listed}." if listed else "")
