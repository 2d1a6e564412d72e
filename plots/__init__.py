"""Figures and tables, drawn from records alone. One per file."""

import os

os.environ["MPLBACKEND"] = "agg"  # matplotlib does not import with one that it does not know

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bench import records
from bench.errors import UsageError
from bench.records import checksums
from bench.records.files import write_whole
from plots import conditions, style
from plots.cost import table as cost_table
from plots.cost import time_and_memory
from plots.gradients import activation, lipschitz, order, statistics
from plots.gradients import blocks as gradient_blocks
from plots.gradients import table as gradient_table
from plots.growth import curves as growth
from plots.growth import table as growth_table
from plots.memory import blocks as memory_blocks
from plots.memory import laws, tradeoff
from plots.memory import steps as memory_steps
from plots.recorded import Recorded, read
from plots.reversibility import claims, pictures
from plots.reversibility import steps as reversal_steps
from plots.training import accuracy, gradient_error, statistics_curves, statistics_table, step_cost
from plots.training import curves as training

__all__ = ["FIGURES", "MEASURED_FIGURES", "draw", "draw_measured"]

FIGURES: Mapping[str, Callable[[Recorded, Path], list[Path]]] = {
    "training": training.draw,
    "gradient_error": gradient_error.draw,
    "cost": step_cost.draw,
    "accuracy_table": accuracy.draw,
    "statistics_curves": statistics_curves.draw,
    "statistics_table": statistics_table.draw,
}
"""Name → a function that draws into a folder and returns the files it wrote."""


MEASURED_FIGURES: Mapping[str, Callable[[pd.DataFrame, Path], list[Path]]] = {
    "cost_memory": time_and_memory.draw,
    "cost_table": cost_table.draw,
    "gradient_order": order.draw,
    "gradient_blocks": gradient_blocks.draw,
    "gradient_statistics": statistics.draw,
    "gradient_table": gradient_table.draw,
    "gradient_activation": activation.draw,
    "gradient_lipschitz": lipschitz.draw,
    "growth": growth.draw,
    "growth_table": growth_table.draw,
    "memory_steps": memory_steps.draw,
    "memory_blocks": memory_blocks.draw,
    "memory_tradeoff": tradeoff.draw,
    "memory_laws": laws.draw,
    "reversal_pictures": pictures.draw,
    "reversal_steps": reversal_steps.draw,
    "reversal_claims": claims.draw,
}
"""The same for the suites that train nothing: from their measurements."""


def draw_measured(
    names: Sequence[str],
    suite_folder: Path,
    row: type[Any],
    key: Sequence[str],
    cases: Set[tuple[Any, ...]],
) -> list[Path]:
    """Draw the named figures from the rows of measurements recorded in a suite's folder: from
    those whose fields `key` are among the cases.

    Raises UsageError when none is recorded or the files cannot be written.
    """
    file = suite_folder / records.MEASUREMENTS
    recorded = records.read_rows(file, row)
    rows = [r for r in recorded if records.key_of(r, key) in cases]
    if not rows:
        raise UsageError(f"none of the suite's cases is recorded in {file}: run it first")
    # What was measured on several devices is not one figure.
    frame = pd.DataFrame([asdict(r) for r in rows if r.device == rows[-1].device])
    where = [e for e in checksums.environments(file) if e.get("device") == rows[-1].device]
    caveat = conditions.not_the_same_environments(where)
    with _writing(suite_folder / "figures") as folder, conditions.stated(caveat):
        written = [file for name in names for file in MEASURED_FIGURES[name](frame, folder)]
        for table in [file for file in written if caveat and file.suffix == ".md"]:
            write_whole(table, f"{table.read_text(encoding='utf-8')}\n{caveat.strip()}\n")
        return written


def draw(names: Sequence[str], suite_folder: Path, runs: Sequence[str]) -> list[Path]:
    """Draw the named figures of a suite from those of its runs that are recorded.

    Written to `<suite_folder>/figures/`. Raises UsageError when none is recorded or the
    files cannot be written.
    """
    recorded = read(suite_folder, runs)
    with _writing(suite_folder / "figures") as folder:
        return [file for name in names for file in FIGURES[name](recorded, folder)]


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with style.drawing():
            yield folder
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename or folder} ({error.strerror}): free disk "
            "space or make it writable, then draw again with --plots-only"
        ) from error
