"""Test accuracy after the last epoch, as min / max / avg over the seeds."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from plots import labels, markdown
from plots.training.recorded import BASELINE, Recorded, Scheme

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
    """Write accuracy.csv with all columns, and accuracy.md, a summary."""
    table = summarise(recorded)
    return markdown.write(folder, "accuracy", _markdown(table, recorded), {"accuracy": table})


def summarise(recorded: Recorded) -> pd.DataFrame:
    """A row for each network × scheme × gradient method: test accuracy after the last epoch, in
    per cent, over the seeds whose runs are complete, and the published values, which exist for
    CIFAR-10 alone."""
    rows = []
    groups = recorded.runs.groupby(
        ["network", "method", "n_steps", "gradient"], sort=False, observed=True
    )
    for (network, method, n_steps, gradient), runs in groups:
        complete = runs[runs["status"] == "ok"]
        final = 100 * complete["final_test_accuracy"].astype(float)
        best = 100 * complete["best_test_accuracy"].astype(float)
        low, high, average = published(runs) or (None, None, None)
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


def published(runs: pd.DataFrame) -> tuple[float, float, float] | None:
    """The published min, max and average of a group of runs of one network and gradient method;
    None where there are none, or the runs are not of CIFAR-10."""
    first = runs.iloc[0]
    is_cifar10 = int(first["num_classes"]) == 10 and first["is_cifar"]
    return PUBLISHED.get((first["network"], first["gradient"])) if is_cifar10 else None


def _markdown(table: pd.DataFrame, recorded: Recorded) -> Iterator[str]:
    columns: markdown.Columns = {
        "network": lambda row: labels.network(row.network),
        "scheme": lambda row: scheme_title(row.gradient, row.method, row.n_steps),
        "gradient method": lambda row: labels.gradient(row.gradient),
        "min / max": lambda row: _range(row.min, row.max),
        "avg": lambda row: markdown.number(row.avg, ".2f"),
        "seeds": lambda row: (
            f"{row.seeds}" + (f" ({row.diverged} diverged)" if row.diverged else "")
        ),
    }
    beside: markdown.Columns = {
        "published min / max": lambda row: _range(row.published_min, row.published_max),
        "published avg": lambda row: markdown.number(row.published_avg, ".2f"),
    }
    has_published = table["published_avg"].notna().any()
    yield "Test accuracy after the last epoch, in per cent."
    yield markdown.table({**columns, **beside} if has_published else columns, table)
    yield recorded.protocol() + (f"\n{_SOURCE}" if has_published else "")


_SOURCE = (
    "Published: the table in the ANODE repository's README, 350 epochs on the official CIFAR-10; "
    "its scheme and number of repeats are not stated there."
)


def scheme_title(gradient: str, method: str, n_steps: float) -> str:
    """The scheme of a group of runs; "" for a baseline."""
    return "" if gradient == BASELINE else Scheme(method, int(n_steps)).title


def _range(low: float, high: float) -> str:
    return "–" if pd.isna(low) else f"{low:.2f} / {high:.2f}"
