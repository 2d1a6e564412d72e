"""The min / max / avg table of the ANODE repository's README, its numbers beside ours."""

from pathlib import Path

import pandas as pd

from bench.records.files import write_whole
from plots import style
from plots.recorded import BASELINE, Panel, Recorded

# Test accuracy in per cent, min / max / avg. The scheme and the number of repeats are not stated.
PUBLISHED = {
    ("alexnet", "baseline"): (86.84, 87.15, 87.03),
    ("alexnet", "node"): (74.54, 76.78, 75.67),
    ("alexnet", "anode"): (87.86, 88.14, 88.02),
    ("resnet4", "baseline"): (76.47, 77.35, 76.95),
    ("resnet4", "node"): (44.73, 49.91, 47.37),
    ("resnet4", "anode"): (76.92, 77.45, 77.30),
    ("resnet10", "baseline"): (87.79, 88.52, 88.10),
    ("resnet10", "node"): (64.7, 70.06, 67.94),
    ("resnet10", "anode"): (88.48, 88.75, 88.60),
}


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """accuracy.csv, with everything, and accuracy.md, for people."""
    table = summarise(recorded)
    csv, markdown = folder / "accuracy.csv", folder / "accuracy.md"
    write_whole(csv, table.to_csv(index=False))
    write_whole(markdown, _markdown(table, recorded))
    return [csv, markdown]


def summarise(recorded: Recorded) -> pd.DataFrame:
    """A row for each network × scheme × gradient method: test accuracy after the last epoch, in
    per cent, over the seeds whose runs are complete, and the published values where there are
    any (CIFAR-10 alone, not generated images)."""
    rows = []
    groups = recorded.runs.groupby(
        ["network", "method", "n_steps", "gradient"], sort=False, observed=True
    )
    for (network, method, n_steps, gradient), runs in groups:
        complete = runs[runs["status"] == "ok"]
        final = 100 * complete["final_test_accuracy"].astype(float)
        best = 100 * complete["best_test_accuracy"].astype(float)
        first = runs.iloc[0]
        is_cifar10 = int(first["num_classes"]) == 10 and not first["is_generated"]
        published = PUBLISHED.get((network, gradient)) if is_cifar10 else None
        low, high, average = published or (None, None, None)
        rows.append(
            {
                "network": network,
                "method": "" if gradient == BASELINE else method,
                "n_steps": None if gradient == BASELINE else n_steps,
                "gradient": gradient,
                "min": final.min(),
                "max": final.max(),
                "avg": final.mean(),
                "best_epoch_avg": best.mean(),
                "seeds": len(complete),
                "diverged": int((runs["status"] == "diverged").sum()),
                "published_min": low,
                "published_max": high,
                "published_avg": average,
            }
        )
    return pd.DataFrame(rows)


def _markdown(table: pd.DataFrame, recorded: Recorded) -> str:
    lines = [
        "| network | scheme | gradient method | min / max | avg | seeds | published min / max "
        "| published avg |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        is_baseline = row.gradient == BASELINE
        scheme = "" if is_baseline else Panel(str(row.method), int(row.n_steps)).title
        seeds = f"{row.seeds}" + (f" ({row.diverged} diverged)" if row.diverged else "")
        lines.append(
            f"| {style.network_name(row.network)} | {scheme} | {style.gradient_name(row.gradient)} "
            f"| {_range(row.min, row.max)} | {_number(row.avg)} | {seeds} "
            f"| {_range(row.published_min, row.published_max)} | {_number(row.published_avg)} |"
        )
    return "\n".join(
        [
            "Test accuracy after the last epoch, in per cent.",
            "",
            *lines,
            "",
            recorded.protocol(),
            "Published: the table in the ANODE repository's README, 350 epochs on the official "
            "CIFAR-10; its scheme and number of repeats are not stated there.",
            "",
        ]
    )


def _range(low: float, high: float) -> str:
    return "–" if pd.isna(low) else f"{low:.2f} / {high:.2f}"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"
