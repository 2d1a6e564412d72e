"""Training runs: run.json and epochs.csv."""

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bench.errors import UsageError
from bench.records import checksums, tables
from bench.records.checksums import DamagedRecordError
from bench.records.files import read_whole, write_whole

RUN, EPOCHS = "run.json", "epochs.csv"
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


def write_run(results: Path, run: Run) -> Path:
    """Record a run and return its folder."""
    folder = run.folder(results)
    # Until the new run.json stands, what may be there of an earlier try is not a record.
    with contextlib.suppress(FileNotFoundError):
        (folder / RUN).unlink()
    epochs = _epochs_csv(run.epochs).encode()
    write_whole(folder / EPOCHS, epochs)
    content = {"schema": checksums.SCHEMA, **asdict(run)}
    del content["epochs"]
    content["summary"] = {name: _finite(value) for name, value in run.summary.items()}
    content["epochs_sha256"] = checksums.sha256(epochs)
    write_whole(folder / RUN, checksums.dumps(content))
    return folder


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
        content = checksums.loads(read_whole(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedRecordError(file, f"it cannot be read: {error.strerror}", both) from error
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(file, "it is not what was written", both) from error
    if content["schema"] != checksums.SCHEMA:
        raise checksums.other_version(file, content["schema"])
    try:
        table = read_whole(epochs)
    except OSError as error:
        raise DamagedRecordError(epochs, f"it cannot be read: {error.strerror}", both) from error
    if content["name"] != folder.absolute().name:
        raise DamagedRecordError(file, f"it is the record of {content['name']}", both)
    if checksums.sha256(table) != content["epochs_sha256"]:
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
        "device_name": _device_names(content["environment"]),
    }


def _device_names(environment: Mapping[str, Any]) -> str:
    """Of all the parts of a run, in their order."""
    earlier = environment.get("earlier_parts") or ()
    names = [part["device_name"] for part in earlier if "device_name" in part]
    return ", then ".join(dict.fromkeys([*names, environment["device_name"]]))


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
