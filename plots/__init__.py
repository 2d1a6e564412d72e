"""Figures and tables, drawn from records alone: a folder for each kind, a figure per file."""

import os

os.environ["MPLBACKEND"] = "agg"  # matplotlib does not import with a name that it does not know

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from bench import records
from bench.records import (
    CostRow,
    GradientRow,
    GrowthRow,
    MemoryRow,
    OdeGradientRow,
    ReversalRow,
    UsageError,
)
from plots import (
    conditions,
    cost,
    gradients,
    growth,
    labels,
    memory,
    reversibility,
    style,
    training,
)
from plots.training.recorded import Recorded, read

__all__ = ["FIGURES", "MEASURED_FIGURES", "draw", "draw_folder", "draw_measured"]

MeasuredFigure = Callable[[pd.DataFrame, Path], list[Path]]

FIGURES: Mapping[str, Callable[[Recorded, Path], list[Path]]] = training.FIGURES
"""Name → a function that draws recorded runs into a folder and returns the files it wrote."""

BY_ROW: Mapping[type[Any], Mapping[str, MeasuredFigure]] = {
    CostRow: cost.FIGURES,
    GradientRow: gradients.FIGURES,
    GrowthRow: growth.FIGURES,
    MemoryRow: memory.FIGURES,
    OdeGradientRow: gradients.ODE_FIGURES,
    ReversalRow: reversibility.FIGURES,
}
"""Kind of measurement → its figures by name."""

MEASURED_FIGURES: Mapping[str, MeasuredFigure] = {
    name: figure for figures in BY_ROW.values() for name, figure in figures.items()
}
"""The same for the suites that train nothing: from their measurements."""

_DESCRIBED = ("network", "problem", "method", "scheme", "n_steps", "gradient")


def draw(
    names: Sequence[str],
    suite_folder: Path,
    runs: Sequence[str],
    suite_runs: Collection[str] | None = None,
) -> list[Path]:
    """Draw the named figures of a suite from those of its runs that are recorded.

    suite_runs: all runs of the suite. Where `runs` are others, the figures are written to a folder
    of their own below `<suite_folder>/figures/`, and those of the whole suite stay. Raises
    UsageError when no run is recorded or the files cannot be written.
    """
    recorded = read(suite_folder, runs)
    place = _place(suite_folder, runs, suite_runs, recorded.runs)
    with _writing(place) as folder:
        return [file for name in names for file in FIGURES[name](recorded, folder)]


def draw_measured(
    names: Sequence[str],
    suite_folder: Path,
    row: type[Any],
    key: Sequence[str],
    cases: Collection[tuple[Any, ...]],
    suite_cases: Collection[tuple[Any, ...]] | None = None,
) -> list[Path]:
    """Draw the named figures from the measurements recorded in a suite's folder, of those rows
    whose fields `key` are among the cases.

    suite_cases: all cases of the suite, as `suite_runs` of `draw`. Raises UsageError when none is
    recorded or the files cannot be written.
    """
    file = suite_folder / records.MEASUREMENTS
    recorded = records.read_rows(file, row)
    rows = [r for r in recorded if records.key_of(r, key) in cases]
    if not rows:
        raise UsageError(f"none of the suite's cases is recorded in {file}: run it first")
    # Measurements on several devices do not belong into one figure.
    frame = pd.DataFrame([asdict(r) for r in rows if r.device == rows[-1].device])
    where = [e for e in records.environments(file) if e.get("device") == rows[-1].device]
    note = conditions.differences_of_environments(where)
    place = _place(suite_folder, cases, suite_cases, frame)
    with _writing(place) as folder, conditions.noted(note):
        written = [file for name in names for file in MEASURED_FIGURES[name](frame, folder)]
        for table in [file for file in written if note and file.suffix == ".md"]:
            text = table.read_text(encoding="utf-8")
            records.write_whole(table, f"{text}\n{note.strip()}\n")
        return written


def draw_folder(folder: Path) -> list[Path]:
    """Draw every figure that the records in a folder can show, whatever the folder is called.

    Raises UsageError when it has neither runs nor measurements, or the files cannot be written.
    """
    if any(folder.glob(f"*/{records.RUN}")):
        return draw([*FIGURES], folder, _in_order(records.load_runs(folder)))
    file = folder / records.MEASUREMENTS
    try:
        with file.open(encoding="utf-8") as lines:
            columns = {*lines.readline().strip().split(",")}
    except OSError as error:
        raise UsageError(f"{folder} has no recorded runs and no {file.name}") from error
    for row, figures in BY_ROW.items():
        if {field.name for field in fields(row)} == columns:
            return draw_measured([*figures], folder, row, (), {()})
    raise UsageError(f"{file} was written by another version or suite")


def _in_order(runs: pd.DataFrame) -> list[str]:
    """The names of runs in the order of labels.py: by seed, network, scheme, gradient method."""
    orders = {"network": [*labels.NETWORKS], "gradient": [*labels.GRADIENTS]}

    def ranks(column: "pd.Series[Any]") -> Any:
        order = orders.get(str(column.name))
        return (
            column.map(lambda v: order.index(v) if v in order else len(order)) if order else column
        )

    keys = ["seed", "network", "method", "n_steps", "gradient", "run"]
    return list(runs.sort_values(keys, key=ranks)["run"])


def _place(
    suite_folder: Path, chosen: Collection[Any], whole: Collection[Any] | None, rows: pd.DataFrame
) -> Path:
    """The folder of figures: the suite's, or one of its own for another selection."""
    place = suite_folder / "figures"
    if whole is None or {*chosen} == {*whole}:
        return place
    values = [str(value) for name in _DESCRIBED if name in rows for value in rows[name].unique()]
    described = re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join(values))[:60].strip("-_")
    digest = hashlib.sha256(repr(sorted(map(str, chosen))).encode()).hexdigest()[:6]
    return place / f"{described}-{digest}"


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with style.applied():
            yield folder
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename or folder} ({error.strerror}): free disk "
            "space or make it writable, then draw again with --plots-only"
        ) from error
