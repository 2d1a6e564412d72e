"""Costs of the training steps of a suite's configurations, measured before its runs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.quantities import Quantity, Row
from bench.records.tables import read_rows

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENTS = "measurements.csv"


@dataclass(frozen=True)
class Configuration:
    """The parameters that determine the cost of a training step."""

    network: str
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    device: str
    precision: str


@dataclass(frozen=True)
class Measurement(Configuration, Row):
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

    identity = (*(f.name for f in fields(Configuration)), "quantity")

    def quantities(self) -> Iterator[Quantity]:
        if self.quantity == "seconds_per_step":
            yield Quantity("time per step before training", self.value, self.low, self.high)

    @property
    def configuration(self) -> Configuration:
        return Configuration(*(getattr(self, f.name) for f in fields(Configuration)))


def load_measurements(suite_folder: str | Path) -> "pd.DataFrame":
    """Load the step costs of a suite, one row each with Measurement's columns; may be empty.

    Raises UsageError if they are damaged or of another version.
    """
    import pandas as pd

    file = Path(suite_folder) / MEASUREMENTS
    rows = read_rows(file, Measurement) if file.exists() else []
    return pd.DataFrame(map(asdict, rows), columns=[f.name for f in fields(Measurement)])
