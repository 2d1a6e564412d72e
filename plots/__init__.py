"""Figures and tables, drawn from records alone. One per file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.errors import UsageError
from plots import accuracy_table, cost, gradient_error, training
from plots.recorded import Recorded, read

__all__ = ["FIGURES", "draw"]

FIGURES: Mapping[str, Callable[[Recorded, Path], list[Path]]] = {
    "training": training.draw,
    "gradient_error": gradient_error.draw,
    "cost": cost.draw,
    "accuracy_table": accuracy_table.draw,
}
"""Name → a function that draws into a folder and returns the files it wrote."""


def draw(names: Sequence[str], suite_folder: Path, runs: Sequence[str]) -> list[Path]:
    """Draw the named figures of a suite from those of its runs that are recorded.

    Written to `<suite_folder>/figures/`. Raises UsageError when none is recorded or the
    files cannot be written.
    """
    recorded = read(suite_folder, runs)
    folder = suite_folder / "figures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [file for name in names for file in FIGURES[name](recorded, folder)]
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename or folder} ({error.strerror}): mend that, then draw "
            "again with --plots-only"
        ) from error
