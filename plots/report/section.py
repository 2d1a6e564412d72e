"""A suite's part of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import EPOCHS, MEASUREMENTS, RUN
from plots import labels, markdown
from plots.output import Picture
from plots.training.recorded import BASELINE


@dataclass(frozen=True)
class Part:
    """Files that one entry of a suite's figures wrote: pictures, and others, such as tables."""

    title: str
    pictures: Sequence[Picture]
    files: Sequence[Path]

    @property
    def all_files(self) -> list[Path]:
        return [*(file for picture in self.pictures for file in picture.files), *self.files]


@dataclass(frozen=True)
class Section:
    """One suite, or a selection of it.

    place: the folder of the figures. command: what draws them again. facts: what was run on what.
    runs: as `rows_of_runs`. records: files.
    """

    title: str
    place: Path
    command: str
    facts: Mapping[str, str]
    parts: Sequence[Part]
    runs: Sequence[Mapping[str, str | Path]]
    records: Sequence[Path]

    @property
    def files(self) -> list[Path]:
        """All files of all parts."""
        return [file for part in self.parts for file in part.all_files]


def rows_of_runs(runs: pd.DataFrame, folder: Path) -> list[dict[str, str | Path]]:
    """A row for each run in a suite's folder; the last two columns are the files of its record."""
    return [
        {
            "network": labels.network(run["network"]),
            "scheme": "–"
            if run["gradient"] == BASELINE
            else labels.scheme(run["method"], run["n_steps"]),
            "gradient method": labels.gradient(run["gradient"]),
            "seed": str(run["seed"]),
            "status": run["status"],
            "epochs": _number(run, "epochs", "d"),
            "test accuracy": _number(run, "final_test_accuracy", ".2%"),
            "training loss": _number(run, "final_train_loss", ".4f"),
            "gradient error": _number(run, "final_gradient_error", ".2g"),
            "peak MiB": _number(run, "peak_memory_bytes", ".1f", 2**-20),
            "seconds": _number(run, "seconds", ".0f"),
            "record": folder / run["run"] / RUN,
            "curves": folder / run["run"] / EPOCHS,
        }
        for run in runs.to_dict("records")
    ]


def measured_files(folder: Path) -> list[Path]:
    """The records of a suite's measurements."""
    names = (MEASUREMENTS, MEASUREMENTS.replace(".csv", ".json"), "pictures.npz", "pictures.json")
    return [folder / name for name in names if (folder / name).exists()]


def _number(run: Mapping[Any, Any], name: str, form: str, factor: float = 1) -> str:
    value = run.get(name)
    if value is None or pd.isna(value):
        return "–"
    return markdown.number(int(value) if form == "d" else factor * value, form)
