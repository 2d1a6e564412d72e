"""Test accuracy with each kind of BatchNorm statistics, and the loss of `node` with each."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from bench.records import STATISTICS
from bench.records.comparison.noise import mcnemar
from plots import labels, markdown
from plots.training.accuracy import published, scheme_title
from plots.training.recorded import BASELINE, Recorded

_EXPLAINED = (
    "*running*: as trained. *forward*: the running statistics had forward passes alone updated "
    "them. *re-estimated*: means over all training images, augmented as in training, with the "
    "final weights; *per evaluation*: the same with one set for each evaluation of f; *plain*: "
    "from images that are not augmented. *test batch's own*: mean and variance of the test batch."
)


def draw(recorded: Recorded, folder: Path) -> list[Path]:
    """Write statistics.csv and statistics.md, the accuracies, and statistics-gaps.csv, the paired
    differences. Nothing where no run has these statistics.
    """
    accuracies = final_accuracies(recorded)
    if accuracies.empty:
        return []
    gaps = paired_gaps(recorded)
    tables = {"statistics": accuracies, "statistics-gaps": gaps}
    return markdown.write(folder, "statistics", _markdown(accuracies, gaps, recorded), tables)


def final_accuracies(recorded: Recorded) -> pd.DataFrame:
    """One row for each complete run: network, scheme, gradient method and seed, and for each kind
    of statistics the test accuracy after the last epoch, in per cent."""
    epochs = recorded.having("test_accuracy_batch").epochs
    final = epochs[(epochs["status"] == "ok") & (epochs["epoch"] == epochs["num_epochs"])]
    identity = ["run", "network", "method", "n_steps", "gradient", "seed"]
    identity += ["num_classes", "is_cifar"]
    named = {_column(kind): kind for kind in STATISTICS}
    accuracies = final[[*identity, *named]].rename(columns=named)
    accuracies[[*STATISTICS]] = 100 * accuracies[[*STATISTICS]].astype(float)
    return accuracies.reset_index(drop=True)


def paired_gaps(recorded: Recorded) -> pd.DataFrame:
    """One row for each pair of runs of one seed and kind of statistics: the test accuracy of the
    exact gradient minus that of `node`, in percentage points.

    only_exact and only_node: the numbers of test images that one of the two alone classified
    correctly; standard_error: of the gap over test images, in points; p_value: McNemar's test.
    """
    rows = []
    accuracies = final_accuracies(recorded)
    for _, node in accuracies[accuracies["gradient"] == "node"].iterrows():
        partner = _exact_partner(accuracies, node)
        if partner is None:
            continue
        correct = recorded.correct[node["run"]], recorded.correct[partner["run"]]
        for kind in STATISTICS:
            if all(kind in frame for frame in correct):
                node_right, exact_right = (frame[kind].to_numpy() for frame in correct)
                test = mcnemar(exact_right, node_right)
                rows.append(
                    {
                        **node[["network", "method", "n_steps", "seed"]].to_dict(),
                        "exact": partner.name,
                        "statistics": kind,
                        "gap": partner[kind] - node[kind],
                        "only_exact": test.only_first,
                        "only_node": test.only_second,
                        "standard_error": test.standard_error,
                        "p_value": test.p_value,
                    }
                )
    return pd.DataFrame(rows)


def _exact_partner(accuracies: pd.DataFrame, node: pd.Series) -> pd.Series | None:
    """The run with the exact gradient of the same seed: `anode`, or the baseline where that is the
    same computation."""
    key = ["network", "method", "n_steps", "seed"]
    same = accuracies[(accuracies[key] == node[key]).all(axis=1)].set_index("gradient")
    return next((same.loc[g] for g in ("anode", BASELINE) if g in same.index), None)


def _column(kind: str) -> str:
    return "test_accuracy" if kind == "running" else f"test_accuracy_{kind}"


def _markdown(accuracies: pd.DataFrame, gaps: pd.DataFrame, recorded: Recorded) -> Iterator[str]:
    yield (
        "Test accuracy after the last epoch, in per cent: mean over the seeds ± their standard "
        "deviation."
    )
    yield _accuracy_table(accuracies)
    yield _EXPLAINED
    if len(gaps):
        yield (
            "Percentage points of test accuracy that `node` loses to the exact gradient, seed by "
            "seed ± the standard error over test images; mean over the seeds ± its standard error."
        )
        yield _gap_table(gaps)
    yield recorded.protocol()


def _accuracy_table(accuracies: pd.DataFrame) -> str:
    columns: markdown.Columns = {
        "network": lambda runs: labels.network(runs["network"].iloc[0]),
        "scheme": lambda runs: scheme_title(*runs[["gradient", "method", "n_steps"]].iloc[0]),
        "gradient method": lambda runs: labels.gradient(runs["gradient"].iloc[0]),
        "seeds": len,
        **{name: partial(_accuracy, kind) for kind, name in STATISTICS.items()},
    }
    keys = ["network", "method", "n_steps", "gradient"]
    groups = [runs for _, runs in accuracies.groupby(keys, sort=False)]
    if any(map(published, groups)):
        columns = {**columns, "published average": _published_average}
    return markdown.table(columns, groups)


def _published_average(runs: pd.DataFrame) -> str:
    return markdown.number((published(runs) or [None] * 3)[2], ".1f")


def _gap_table(gaps: pd.DataFrame) -> str:
    columns: markdown.Columns = {
        "network": lambda pairs: labels.network(pairs["network"].iloc[0]),
        "scheme": lambda pairs: scheme_title("node", *pairs[["method", "n_steps"]].iloc[0]),
        "statistics": lambda pairs: STATISTICS[pairs["statistics"].iloc[0]],
        "mean": lambda pairs: _with_spread(pairs["gap"].mean(), pairs["gap"].sem(), "+.1f"),
        "each seed": lambda pairs: ", ".join(
            f"{gap:+.1f} ± {error:.1f}"
            for gap, error in zip(pairs["gap"], pairs["standard_error"], strict=True)
        ),
    }
    keys = ["network", "method", "n_steps", "statistics"]
    return markdown.table(columns, (pairs for _, pairs in gaps.groupby(keys, sort=False)))


def _accuracy(kind: str, runs: pd.DataFrame) -> str:
    return _with_spread(runs[kind].mean(), runs[kind].std(), ".1f")


def _with_spread(mean: float, spread: float, form: str) -> str:
    """A mean over seeds; a single seed has no spread."""
    return markdown.number(mean, form) + ("" if pd.isna(spread) else f" ± {spread:.1f}")
