"""The recorded runs of a suite, as the figures of this folder use them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench import records
from plots import labels
from plots.conditions import differences

BASELINE = "baseline"


@dataclass(frozen=True)
class Scheme:
    """A time-stepping scheme with its number of steps. Baselines, which have none, are compared
    with every scheme."""

    method: str
    n_steps: int

    @property
    def slug(self) -> str:
        return records.distinct_name(self.method, f"nt{self.n_steps}")

    @property
    def is_baseline(self) -> bool:
        """True if a step of this scheme is the baseline's block, z + f(z)."""
        return self.method == "euler" and self.n_steps == 1

    @property
    def title(self) -> str:
        return f"{labels.method(self.method)}, {count(self.n_steps, 'step')}"


@dataclass(frozen=True)
class Recorded:
    """Runs of a suite with their step costs.

    epochs, runs and measurements: as bench.records loads them. correct: for each run, the test
    images that it classified correctly. measured_in: the environments of the
    measurements. environments: of the runs.
    """

    epochs: pd.DataFrame
    runs: pd.DataFrame
    measurements: pd.DataFrame
    correct: Mapping[str, pd.DataFrame]
    measured_in: Sequence[Mapping[str, Any]]
    environments: Sequence[Mapping[str, Any]]

    def schemes(self) -> list[Scheme]:
        """The schemes of the runs, in their order."""
        own = self.runs[self.runs["gradient"] != BASELINE]
        pairs = own[["method", "n_steps"]].drop_duplicates()
        found = [Scheme(row.method, int(row.n_steps)) for row in pairs.itertuples()]
        return found or [Scheme("euler", 1)]

    def of_scheme(self, scheme: Scheme) -> "Recorded":
        """The runs of one scheme, and the baselines."""

        def chosen(frame: pd.DataFrame) -> pd.DataFrame:
            own = (frame["method"] == scheme.method) & (frame["n_steps"] == scheme.n_steps)
            return frame[own | (frame["gradient"] == BASELINE)]

        return self._map(chosen)

    def of_network(self, network: str) -> "Recorded":
        """The runs of one network."""
        return self._map(lambda frame: frame[frame["network"] == network])

    def having(self, column: str) -> "Recorded":
        """The runs that have a value in a column of their epochs."""
        found = self.epochs[self.epochs[column].notna()]["run"].unique()
        runs, epochs = (frame[frame["run"].isin(found)] for frame in (self.runs, self.epochs))
        return replace(self, runs=runs, epochs=epochs)

    def _map(self, choose: Callable[[pd.DataFrame], pd.DataFrame]) -> "Recorded":
        return replace(
            self,
            epochs=choose(self.epochs),
            runs=choose(self.runs),
            measurements=choose(self.measurements),
        )

    def networks(self) -> list[str]:
        return list(self.runs["network"].unique())

    def gradients(self) -> list[str]:
        return list(self.runs["gradient"].unique())

    def protocol(self) -> str:
        """For captions: data, seeds, epochs, images, and the conditions that runs do not share."""
        first = self.runs.iloc[0]
        precision = first["precision"]
        seeds = self.runs.groupby(["network", "method", "n_steps", "gradient"])["seed"].nunique()
        fewest = f"{seeds.min()} to " if seeds.min() < seeds.max() else ""
        images = "All" if pd.isna(first["train_images"]) else f"{int(first['train_images']):,}"
        return (
            f"Data: {first['data']}. {images} training images, "
            f"{count(int(first['num_epochs']), 'epoch')}, batch {int(first['batch_size'])}, "
            f"{fewest}{count(int(seeds.max()), 'seed')}, "
            f"{'' if precision == 'float32' else f'{precision}, '}"
            f"on {' and '.join(self.runs['device_name'].unique())}."
            f"{differences(self.runs, 'runs')}"
        )


def count(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def read(suite_folder: Path, names: Sequence[str]) -> Recorded:
    """Read the named runs of a suite, as far as they are recorded, and its measurements.

    Raises UsageError when none of them is recorded.
    """
    runs = records.load_runs(suite_folder, names)
    order = {name: position for position, name in enumerate(names)}
    runs = runs.sort_values("run", key=lambda column: column.map(order))
    epochs = records.load(suite_folder, names)
    epochs = epochs.sort_values("run", key=lambda column: column.map(order), kind="stable")
    return Recorded(
        epochs,
        runs,
        _of_runs(records.load_measurements(suite_folder), runs),
        {name: records.load_correct(suite_folder / name) for name in runs["run"]},
        records.environments(suite_folder / records.MEASUREMENTS),
        [run.environment for run in records.read_runs(suite_folder, names)],
    )


def _of_runs(measurements: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The measurements of the runs' configurations, on the device and at the batch size of the
    first run."""
    first = runs.iloc[0]
    batch = int(first["batch_size"])
    if not pd.isna(first["train_images"]):
        batch = min(batch, int(first["train_images"]))
    same = (measurements["device"] == first["device"]) & (measurements["batch_size"] == batch)
    key = ["network", "method", "n_steps", "gradient", "precision"]
    return measurements[same].merge(runs[key].drop_duplicates(), on=key)
