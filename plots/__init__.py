"""Figures and tables, drawn from records alone: a folder for each kind, a figure per file."""

import os

os.environ["MPLBACKEND"] = "agg"  # matplotlib does not import with a name that it does not know

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench import records
from bench.records import (
    CostRow,
    GradientRow,
    GrowthRow,
    LowPrecisionRow,
    MemoryRow,
    OdeGradientRow,
    ReversalRow,
    UsageError,
)
from bench.records.quantities import kind_of
from bench.records.tables import RENAMED
from plots import cost, gradients, growth, labels, memory, report, reversibility, sections, training
from plots.report import Section
from plots.sections import USUAL, Figure, How

__all__ = [
    "BY_ROW",
    "FIGURES",
    "USUAL",
    "How",
    "draw",
    "draw_folder",
    "draw_measured",
]

FIGURES: Mapping[str, Figure] = training.FIGURES
"""Name → a function that draws recorded runs into a folder and returns the files it wrote."""

BY_ROW: Mapping[type[Any], Mapping[str, Figure]] = {
    CostRow: cost.FIGURES,
    GradientRow: gradients.FIGURES,
    GrowthRow: growth.FIGURES,
    LowPrecisionRow: gradients.LOW_PRECISION_FIGURES,
    MemoryRow: memory.FIGURES,
    OdeGradientRow: gradients.ODE_FIGURES,
    ReversalRow: reversibility.FIGURES,
}
"""Kind of measurement → its figures by name."""

_PROTOCOL = ["num_classes", "num_epochs", "batch_size", "lr", "precision"]
_PROTOCOL += ["train_images", "test_images", "fingerprint"]
"""Columns that all runs in one figure of `draw_folder` must share."""


def draw(
    names: Collection[str],
    suite_folder: Path,
    runs: Sequence[str],
    suite_runs: Collection[str] | None = None,
    how: How = USUAL,
) -> list[Path]:
    """Draw the named figures of a suite from those of its runs that are recorded, and write the
    report; return the files.

    suite_runs: all runs of the suite. Where `runs` are others, the files are written to a folder
    of their own below `<suite_folder>/figures/`, and those of the whole suite stay. Raises
    UsageError when no run is recorded or the files cannot be written.
    """
    figures = {name: FIGURES[name] for name in names}
    return _reported([sections.of_runs(figures, suite_folder, runs, suite_runs, how)])


def draw_measured(
    names: Collection[str],
    suite_folder: Path,
    row: type[Any],
    key: Sequence[str],
    cases: Collection[tuple[Any, ...]],
    suite_cases: Collection[tuple[Any, ...]] | None = None,
    how: How = USUAL,
) -> list[Path]:
    """Draw the named figures from the measurements recorded in a suite's folder, of those rows
    whose fields `key` are among the cases, and write the report.

    suite_cases: all cases of the suite, as `suite_runs` of `draw`. Raises UsageError when none is
    recorded or the files cannot be written.
    """
    figures = {name: BY_ROW[row][name] for name in names}
    section = sections.of_cases(figures, suite_folder, row, key, cases, suite_cases, how)
    return _reported([section])


def draw_folder(folder: Path, formats: Collection[str] = USUAL.formats) -> list[Path]:
    """Draw every figure that the records in a folder can show, and write one report.

    folder: that of a suite, whatever it is called, or of several. Raises UsageError when it has
    neither runs nor measurements, or the files cannot be written.
    """
    how = How(formats)
    suites = [folder] if _has_records(folder) else sorted(filter(_has_records, _folders(folder)))
    if not suites:
        raise UsageError(
            f"{folder} has no recorded runs and no {records.MEASUREMENTS}: run a suite first, or "
            "name another folder"
        )
    return _reported([section for suite in suites for section in _sections(suite, how)], folder)


def _sections(folder: Path, how: How) -> list[Section]:
    """A section for each protocol of a suite's runs, the one with most runs first, or for its
    measurements."""
    if any(folder.glob(f"*/{records.RUN}")):
        protocols = records.load_runs(folder).groupby(_PROTOCOL, dropna=False, sort=False)
        groups = sorted((_in_order(own) for _, own in protocols), key=len, reverse=True)
        return [sections.of_runs(FIGURES, folder, own, groups[0], how) for own in groups]
    file = folder / records.MEASUREMENTS
    with file.open(encoding="utf-8") as lines:
        columns = {RENAMED.get(name, name) for name in lines.readline().strip().split(",")}
    row = kind_of(columns)
    if row is None or row not in BY_ROW:
        raise UsageError(f"{file} was written by another version or suite")
    return [sections.of_cases(BY_ROW[row], folder, row, (), {()}, None, how)]


def _reported(found: Sequence[Section], folder: Path | None = None) -> list[Path]:
    """Write the report of these sections; return all files."""
    page = (folder or found[0].place) / report.PAGE
    with sections.writing(page.parent):
        report.write(page, found)
    return [*(file for section in found for file in section.files), page]


def _folders(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if records.ARCHIVE not in child.name]
    except OSError:
        return []


def _has_records(folder: Path) -> bool:
    return (folder / records.MEASUREMENTS).is_file() or any(folder.glob(f"*/{records.RUN}"))


def _in_order(runs: pd.DataFrame) -> list[str]:
    """The names of runs in the order of labels.py: by seed, network, scheme, gradient method."""
    orders = {"network": labels.NETWORKS, "gradient": labels.GRADIENTS}

    def ranks(column: "pd.Series[Any]") -> Any:
        order = orders.get(str(column.name))
        return column if order is None else column.map(lambda name: labels.rank(order, name))

    keys = ["seed", "network", "method", "n_steps", "gradient", "run"]
    return list(runs.sort_values(keys, key=ranks)["run"])
