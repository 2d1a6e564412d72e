"""The only writer and reader of results/. Knows no torch, so that figures can be drawn without.

    results/<suite>/<experiment>/run.json     experiment, environment, data, status, summary
    results/<suite>/<experiment>/epochs.csv   a row for each epoch
    results/<suite>/measurements.csv          a row for each measurement that is no training run
    results/<suite>/measurements.json         its checksum, and where it was measured
    results/<suite>/pictures.npz, .json       images that were solved there and back, and the same

Beside them there is what `checkpoint` and `locks` write. A file is written beside its place and
renamed, so it is complete or absent; run.json comes last and says that the run is recorded. All
have checksums: `sealed`.
"""

import contextlib
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import sealed, tables
from bench.errors import UsageError
from bench.files import read_whole, write_whole
from bench.sealed import DamagedRecordError
from bench.tables import read_reference as read_reference
from bench.tables import read_rows as read_rows
from bench.tables import write_reference as write_reference
from bench.tables import write_rows as write_rows

RUN, EPOCHS, MEASUREMENTS = "run.json", "epochs.csv", "measurements.csv"
PICTURES = "pictures.npz"
ASIDE = ".aside-"
"""In the name of a folder of results that were kept when somebody started over: it is read only
when it is named itself."""

STATUSES = ("ok", "diverged", "oom", "failed")
RESULTS = ("ok", "diverged", "oom")
"""The statuses that are results. A run that failed is tried again."""


@dataclass(frozen=True)
class EpochRow:
    """What is observed in one epoch. The README says what each column means.

    Errors are None for a baseline, and the two tuples hold one value for each ODE block, in the
    order of the network; in epochs.csv they become columns gradient_error_block1, ….
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    nfe_forward: int
    nfe_backward: int
    gradient_error: float | None
    gradient_cosine: float | None
    gradient_error_blocks: tuple[float, ...]
    gradient_cosine_blocks: tuple[float, ...]
    seconds_per_step: float
    train_seconds: float
    test_seconds: float
    probe_seconds: float


WALL_CLOCK_COLUMNS = ("seconds_per_step", "train_seconds", "test_seconds", "probe_seconds")


@dataclass(frozen=True)
class Run:
    """One recorded training run. reason says, in words, why a status is not "ok"."""

    suite: str
    name: str
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    status: str
    reason: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[EpochRow] = ()

    def folder(self, results: Path) -> Path:
        return results / self.suite / self.name


class Configuration(NamedTuple):
    """What a training step's cost depends on."""

    network: str
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    device: str
    precision: str


@dataclass(frozen=True)
class Measurement:
    """One measured quantity of one configuration, outside of any training run.

    unit is "seconds", "bytes" or "evaluations"; low and high are the quartiles of repeated
    measurements, equal to value where the number is exact.
    """

    network: str
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    device: str
    precision: str
    quantity: str
    unit: str
    value: float
    low: float
    high: float
    repeats: int

    @property
    def configuration(self) -> Configuration:
        return Configuration(*(getattr(self, name) for name in Configuration._fields))


@dataclass(frozen=True)
class GradientRow:
    """One part of one gradient, against backprop's.

    part: "all parameters", "block 1", … (its parameters), "z0 of block 1", … (its input), or
    "statistics" (BatchNorm's, after both passes; its cosine means nothing). lipschitz: ‖∂f/∂z‖₂
    at the block's input, or the largest of the network's blocks.
    """

    network: str
    method: str
    n_steps: int
    gradient: str
    precision: str
    weights: str
    activation: str
    scale: float
    device: str
    part: str
    error: float
    cosine: float
    lipschitz: float


@dataclass(frozen=True)
class CostRow:
    """One phase of a training step: "step" (all of it), "forward", "backward" or "optimizer"; or
    "compile", what is done once before the first.

    seconds, low and high: median and quartiles. ratio, ratio_low, ratio_high: the same of the
    quotients, round by round, with the whole step of backprop in the same layout, precision and
    execution: "eager", or "captured" for one that is replayed as a CUDA graph. peak_bytes and the
    evaluations are the whole eager step's, measured in a step of its own, and None where they
    cannot be seen; gradient_error is the distance from backprop's, checked before anything is
    timed. reason: in a line, why this peer cannot do the work; all numbers are None then, and it
    is "" where they are measured.
    """

    network: str
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    layout: str
    precision: str
    execution: str
    device: str
    phase: str
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    repeats: int | None = None
    peak_bytes: int | None = None
    nfe_forward: int | None = None
    nfe_backward: int | None = None
    gradient_error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class MemoryRow:
    """Peak memory and evaluations of one training step.

    peak_bytes is what the step needs at once beyond what was there before it, state_bytes the
    size of the largest state that an ODE block has, n_blocks the number of ODE blocks.
    """

    network: str
    n_blocks: int
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    device: str
    state_bytes: int
    peak_bytes: int
    nfe_forward: int
    nfe_backward: int


@dataclass(frozen=True)
class GrowthRow:
    """A training step at one point of a sweep, for one of the gradient methods that took turns
    there.

    sweep: "Nt", "batch size" or "width", whatever differs from the sweep's other points. compared:
    the gradient methods that took turns, separated by commas. width: the channels of the widest
    state of an ODE block. seconds: the median of `repeats` rounds. yardstick: the same of a fixed
    step that takes a turn in every round of every case; relative, low and high: median and
    quartiles of the quotients with it, round by round. data_seconds: the median of making one
    augmented batch of that size, which no step includes; data_share, data_share_low and
    data_share_high: median and quartiles of its quotients with the step. peak_bytes and the
    evaluations are those of a step of their own.
    status: "ok", or "oom" where the step did not fit into memory; then nothing else is known.
    """

    sweep: str
    network: str
    method: str
    n_steps: int
    gradient: str
    compared: str
    batch_size: int
    width: int
    device: str
    status: str
    seconds: float = math.nan
    yardstick: float = math.nan
    relative: float = math.nan
    low: float = math.nan
    high: float = math.nan
    data_seconds: float = math.nan
    data_share: float = math.nan
    data_share_low: float = math.nan
    data_share_high: float = math.nan
    repeats: int = 0
    peak_bytes: int = 0
    nfe_forward: int = 0
    nfe_backward: int = 0


@dataclass(frozen=True)
class ReversalRow:
    """One problem solved from t = 0 to 1 and back.

    rho: ‖φ(φ(z0, 1), -1) - z0‖₂ / ‖z0‖₂, infinite where status is not "ok" (what came back is not
    finite, or the adaptive solver gave up). n_steps and n_steps_back: the fixed steps, or the
    accepted adaptive ones. tolerance: the relative one, 0 with fixed steps. nfe: there and back.
    data and fingerprint: of the images, or "none" where no image is solved.
    """

    problem: str
    activation: str
    scheme: str
    n_steps: int
    n_steps_back: int
    tolerance: float
    precision: str
    seed: int
    rho: float
    status: str
    nfe: int
    device: str
    data: str
    fingerprint: str


@dataclass(frozen=True)
class Picture:
    """An image (3, 32, 32), float64 in [0, 1], what a solver makes of it, and what comes back.

    n_steps and tolerance as in ReversalRow; data says where the image is from.
    """

    scheme: str
    activation: str
    n_steps: int
    tolerance: float
    rho: float
    data: str
    input: np.ndarray
    output: np.ndarray
    reconstruction: np.ndarray


def key_of(case_or_row: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """The fields of these names, by which a case and its rows are known to belong together."""
    return tuple(getattr(case_or_row, name) for name in names)


def write_run(results: Path, run: Run) -> Path:
    """Record a run and return its folder."""
    folder = run.folder(results)
    # Until the new run.json stands, what may be there of an earlier try is not a record.
    with contextlib.suppress(FileNotFoundError):
        (folder / RUN).unlink()
    epochs = _epochs_csv(run.epochs).encode()
    write_whole(folder / EPOCHS, epochs)
    content = {"schema": sealed.SCHEMA, **asdict(run)}
    del content["epochs"]
    content["summary"] = {name: _finite(value) for name, value in run.summary.items()}
    content["epochs_sha256"] = sealed.sha256(epochs)
    write_whole(folder / RUN, sealed.dumps(content))
    return folder


def write_measurements(
    results: Path,
    suite: str,
    measurements: Iterable[Measurement],
    environments: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Record the measurements of a suite in place of those that were there; environments as in
    `tables.write_rows`."""
    write_rows(results / suite / MEASUREMENTS, Measurement, measurements, environments)


def write_pictures(
    suite_folder: Path,
    pictures: Sequence[Picture],
    environments: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Record pictures in place of those that were there, and return the file."""
    columns = {
        name: np.array([getattr(picture, name) for picture in pictures])
        for name in Picture.__dataclass_fields__
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns)
    sealed.write(suite_folder / PICTURES, content.getvalue(), environments)
    return suite_folder / PICTURES


def read_pictures(suite_folder: Path) -> list[Picture]:
    """The pictures recorded in a suite's folder. Raises UsageError when there is no such record
    or it cannot be read."""
    content = sealed.read(suite_folder / PICTURES)
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        columns = {name: stored[name] for name in Picture.__dataclass_fields__}
    rows = zip(*columns.values(), strict=True)
    return [Picture(*(_plain(value) for value in row)) for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def load(path: str | Path, names: Collection[str] | None = None) -> pd.DataFrame:
    """All epochs under `path`: the folder of a run, of a suite, or of all results; or of those
    runs there that have one of these names.

    One row for each epoch of each run, with the columns of epochs.csv and before them `suite`,
    `run`, `status`, every field of the experiment, and `data`, `fingerprint`, `is_generated`,
    `device` and `device_name`.
    Raises UsageError when there is no record, or one is damaged or of another version.
    """
    frames = []
    for record in _records(Path(path), names):
        identity = _identity(record.content)
        head = pd.DataFrame([identity] * len(record.epochs), columns=list(identity))
        frames.append(pd.concat([head, record.epochs], axis=1))
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def load_runs(path: str | Path, names: Collection[str] | None = None) -> pd.DataFrame:
    """The runs that `load` loads, one row each: what it puts before an epoch, then `reason` and
    the columns of the run's summary. Raises UsageError as `load` does."""
    return pd.DataFrame(
        [
            {**_identity(content), "reason": content["reason"], **content["summary"]}
            for content, _ in _records(Path(path), names)
        ]
    )


def load_measurements(suite_folder: str | Path) -> pd.DataFrame:
    """The measurements of a suite, one row each with Measurement's columns; may be empty. Raises
    UsageError when they are damaged or of another version."""
    file = Path(suite_folder) / MEASUREMENTS
    rows = read_rows(file, Measurement) if file.exists() else []
    return pd.DataFrame(
        [asdict(row) for row in rows], columns=[f.name for f in fields(Measurement)]
    )


def read_measurements(results: Path, suite: str) -> list[Measurement]:
    """The recorded measurements of a suite; raises UsageError as `load_measurements` does."""
    file = results / suite / MEASUREMENTS
    return read_rows(file, Measurement) if file.exists() else []


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of a run's run.json, or None when nothing is recorded there.

    Raises UsageError when the record is of another version, as DamagedRecordError when it, or the
    table of its epochs, is not what was written.
    """
    record = _read(folder)
    return record and record.content


def read_whole_run(folder: Path) -> Run | None:
    """A recorded run with its epochs, or None when nothing is recorded there. Raises UsageError
    as `read_run` does."""
    record = _read(folder)
    if record is None:
        return None
    values = {f.name: record.content[f.name] for f in fields(Run) if f.name != "epochs"}
    return Run(**values, epochs=[_epoch_row(row) for row in record.epochs.to_dict("records")])


class _Record(NamedTuple):
    """What run.json says, and the table of the epochs."""

    content: dict[str, Any]
    epochs: pd.DataFrame


def _read(folder: Path) -> _Record | None:
    file, epochs = folder / RUN, folder / EPOCHS
    both = (file, epochs)
    try:
        content = sealed.loads(read_whole(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedRecordError(file, f"it cannot be read: {error.strerror}", both) from error
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(file, "it is not what was written", both) from error
    if content["schema"] != sealed.SCHEMA:
        raise sealed.other_version(file, content["schema"])
    try:
        table = read_whole(epochs)
    except OSError as error:
        raise DamagedRecordError(epochs, f"it cannot be read: {error.strerror}", both) from error
    if content["name"] != folder.absolute().name:
        raise DamagedRecordError(file, f"it is the record of {content['name']}", both)
    if sealed.sha256(table) != content["epochs_sha256"]:
        raise DamagedRecordError(epochs, "its checksum is wrong", both)
    return _Record(content, tables.parse(table, _COLUMNS, _COLUMNS))


def _records(path: Path, names: Collection[str] | None) -> list[_Record]:
    folders = [path] if (path / RUN).exists() else [file.parent for file in path.rglob(RUN)]
    folders = [f for f in folders if not any(ASIDE in p for p in f.relative_to(path).parts)]
    wanted = [f for f in sorted(folders) if names is None or f.name in names]
    found = [record for folder in wanted if (record := _read(folder))]
    if not found:
        what = "no recorded run" if names is None else "none of the runs is recorded"
        raise UsageError(f"{what} under {path}: run the suite first")
    return found


def _identity(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "suite": content["suite"],
        "run": content["name"],
        "status": content["status"],
        **content["experiment"],
        "data": content["data"]["source"],
        "fingerprint": content["data"]["fingerprint"],
        "is_generated": content["data"]["is_generated"],
        "device": content["environment"]["device"],
        "device_name": content["environment"]["device_name"],
    }


def _finite(value: Any) -> Any:
    """JSON knows no infinity; a summary says null where epochs.csv has the value."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _epochs_csv(rows: Sequence[EpochRow]) -> str:
    table = []
    for row in rows:
        columns: dict[str, Any] = {}
        for name, value in asdict(row).items():
            if name.endswith("_blocks"):
                stem = name.removesuffix("s")
                columns |= {f"{stem}{i}": part for i, part in enumerate(value, start=1)}
            else:
                columns[name] = value
        table.append(columns)
    return (pd.DataFrame(table) if table else pd.DataFrame(columns=_COLUMNS)).to_csv(index=False)


def _epoch_row(columns: Mapping[Any, Any]) -> EpochRow:
    values: dict[str, Any] = {}
    for f in fields(EpochRow):
        if f.name.endswith("_blocks"):
            parts = [columns.get(f"{f.name.removesuffix('s')}{i + 1}") for i in range(len(columns))]
            values[f.name] = tuple(part for part in parts if part is not None)
        else:
            values[f.name] = tables.as_written(columns[f.name], f.type)
    return EpochRow(**values)


_COLUMNS = [name for name in EpochRow.__dataclass_fields__ if not name.endswith("_blocks")]
