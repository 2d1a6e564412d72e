"""What a training step of a suite's configurations costs, measured before its runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records.tables import read_rows, write_rows

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENTS = "measurements.csv"


@dataclass(frozen=True)
class Configuration:
    """What a training step's cost depends on."""

    network: str
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    device: str
    precision: str


@dataclass(frozen=True)
class Measurement(Configuration):
    """One measured quantity of one configuration, outside of any training run.

    unit is "seconds", "bytes" or "evaluations"; low and high are the quartiles of repeated
    measurements, equal to value where the number is exact.
    """

    quantity: str
    unit: str
    value: float
    low: float
    high: float
    repeats: int

    @property
    def configuration(self) -> Configuration:
        return Configuration(*(getattr(self, f.name) for f in fields(Configuration)))


def write_measurements(
    results: Path,
    suite: str,
    measurements: Iterable[Measurement],
    environments: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Record the measurements of a suite in place of those that were there; environments as in
    `tables.write_rows`."""
    write_rows(results / suite / MEASUREMENTS, Measurement, measurements, environments)


def load_measurements(suite_folder: str | Path) -> "pd.DataFrame":
    """The measurements of a suite, one row each with Measurement's columns; may be empty. Raises
    UsageError when they are damaged or of another version."""
    import pandas as pd

    file = Path(suite_folder) / MEASUREMENTS
    rows = read_rows(file, Measurement) if file.exists() else []
    return pd.DataFrame(
        [asdict(row) for row in rows], columns=[f.name for f in fields(Measurement)]
    )


def read_measurements(results: Path, suite: str) -> list[Measurement]:
    """The recorded measurements of a suite; raises UsageError as `load_measurements` does."""
    file = results / suite / MEASUREMENTS
    return read_rows(file, Measurement) if file.exists() else []
