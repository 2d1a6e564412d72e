"""Training runs: run.json and epochs.csv."""

import base64
import contextlib
import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.errors import UsageError
from bench.records import checksums, tables
from bench.records.checksums import DamagedRecordError
from bench.records.conditions import conditions_of
from bench.records.files import read_whole, write_whole

if TYPE_CHECKING:
    import pandas as pd

RUN, EPOCHS = "run.json", "epochs.csv"
ASIDE = ".aside-"
"""In the name of a folder of results that were kept when somebody started over: it is read only
when it is named itself."""

STATUSES = ("ok", "diverged", "oom", "failed")
RESULTS = ("ok", "diverged", "oom")
"""The statuses that are results. A run that failed is tried again."""


@dataclass(frozen=True)
class EpochRow:
    """What is observed in one epoch. docs/results.md says what each column means.

    Errors are None for a baseline, and the two tuples hold one value for each ODE block, in the
    order of the network; in epochs.csv they become columns gradient_error_block1, ….

    The columns with a default came later: a record that lacks them is read all the same. test_loss
    and test_accuracy are with BatchNorm's running statistics, those that follow with the kinds
    that `bench.instruments.batchnorm` describes; None where a kind was not measured in that epoch.
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
    test_loss_forward: float | None = None
    test_accuracy_forward: float | None = None
    test_loss_batch: float | None = None
    test_accuracy_batch: float | None = None
    test_loss_reestimated: float | None = None
    test_accuracy_reestimated: float | None = None
    test_loss_per_evaluation: float | None = None
    test_accuracy_per_evaluation: float | None = None
    test_loss_plain: float | None = None
    test_accuracy_plain: float | None = None
    statistics_seconds: float | None = None


STATISTICS = {
    "running": "running",
    "forward": "forward",
    "reestimated": "re-estimated",
    "per_evaluation": "per evaluation",
    "batch": "test batch's own",
    "plain": "re-estimated, plain images",
}
"""Kind of BatchNorm statistics → its name in tables."""

WALL_CLOCK_COLUMNS = (
    "seconds_per_step",
    "train_seconds",
    "test_seconds",
    "probe_seconds",
    "statistics_seconds",
)


@dataclass(frozen=True)
class Run:
    """One recorded training run. reason says, in words, why a status is not "ok".

    correct: for each kind of BatchNorm statistics, which test images the network classified
    correctly after the last epoch, as `packed` writes it.
    """

    suite: str
    name: str
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    status: str
    reason: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    correct: Mapping[str, str] = field(default_factory=dict)
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


def load(path: str | Path, names: Collection[str] | None = None) -> "pd.DataFrame":
    """All epochs under `path`: the folder of a run, of a suite, or of all results; or of those
    runs there that have one of these names.

    One row for each epoch of each run, with the columns of epochs.csv and before them `suite`,
    `run`, `status`, every field of the experiment, and `data`, `fingerprint`, `is_generated`,
    `is_cifar`, `device` and `device_name`.
    Raises UsageError when there is no record, or one is damaged or of another version.
    """
    import pandas as pd

    frames = []
    for record in _records(Path(path), names):
        identity = _identity(record.content)
        epochs = record.epochs
        head = pd.DataFrame([identity] * len(epochs), columns=list(identity))
        frames.append(pd.concat([head, epochs], axis=1))
    found = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    return found.reindex(columns=[*dict.fromkeys([*found.columns, *_COLUMNS])])


def load_runs(path: str | Path, names: Collection[str] | None = None) -> "pd.DataFrame":
    """The runs that `load` loads, one row each: what it puts before an epoch, `reason`, the run's
    `conditions_of` its environment, and the columns of its summary. Raises UsageError as `load`
    does."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                **_identity(content),
                "reason": content["reason"],
                **conditions_of(content["environment"]),
                **content["summary"],
            }
            for content, _ in _records(Path(path), names)
        ]
    )


def load_correct(folder: Path) -> "pd.DataFrame":
    """Load which test images a recorded run classified correctly after its last epoch.

    One row for each test image, in the order of the data set, and one bool column for each kind of
    BatchNorm statistics; no row for a record that does not have it. Raises UsageError as `load`
    does.
    """
    import pandas as pd

    record, *_ = _records(folder, None)
    return pd.DataFrame(correct_of(_as_run(record)))


def correct_of(run: Run) -> dict[str, np.ndarray]:
    """Kind of BatchNorm statistics → for each test image, whether a run classified it correctly."""
    n_images = run.experiment["test_images"] or run.data.get("test_images", 0)
    return {kind: _unpacked(bits, n_images) for kind, bits in run.correct.items()}


def packed(correct: np.ndarray) -> str:
    """A bool array as text: one bit an element, in base64."""
    return base64.b64encode(np.packbits(correct)).decode()


def _unpacked(bits: str, count: int) -> np.ndarray:
    found = np.frombuffer(base64.b64decode(bits), dtype=np.uint8)
    return np.unpackbits(found, count=count).astype(bool)


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
    return record and _as_run(record)


def read_runs(path: Path) -> list[Run]:
    """The runs that `load` loads, with their epochs; none where nothing is recorded. Raises
    UsageError for records that are damaged or of another version."""
    return [_as_run(record) for record in _records(path, None)] if _folders(path) else []


def _as_run(record: "_Record") -> Run:
    values = {f.name: record.content[f.name] for f in fields(Run) if f.name in record.content}
    rows = csv.DictReader(io.StringIO(record.table.decode()))
    return Run(**values, epochs=[_epoch_row(row) for row in rows])


class _Record(NamedTuple):
    """What run.json says, and the content of epochs.csv."""

    content: dict[str, Any]
    table: bytes

    @property
    def epochs(self) -> "pd.DataFrame":
        return tables.parse(self.table, _REQUIRED, _COLUMNS)


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
    return _Record(content, table)


def _records(path: Path, names: Collection[str] | None) -> list[_Record]:
    folders = sorted(_folders(path)) if names is None else [path / name for name in sorted(names)]
    found = {folder: record for folder in folders if (record := _read(folder))}
    if not found:
        what = "no recorded run" if names is None else "none of the runs is recorded"
        raise UsageError(f"{what} under {path}: run the suite first")
    first: dict[tuple[str, str], Path] = {}
    for folder, (content, _) in found.items():
        other = first.setdefault((content["suite"], content["name"]), folder)
        if other != folder:
            raise UsageError(
                f"{other} and {folder} record one experiment: load one of them, or move a copy away"
            )
    return [*found.values()]


def _folders(path: Path) -> list[Path]:
    """The folders of runs: `path` itself, or those in the suite `path`, or in suites in `path`.

    Raises UsageError where runs lie in a suite's place, of which one or the others are copies.
    """
    if (path / RUN).exists():
        return [path]
    levels = [
        [
            file.parent
            for file in path.glob(pattern)
            if not any(ASIDE in part for part in file.relative_to(path).parts)
        ]
        for pattern in (f"*/{RUN}", f"*/*/{RUN}")
    ]
    there = [level for level in levels if level]
    if len(there) > 1:
        outer, inner = min(there[0]), min(there[1])
        raise UsageError(
            f"{outer} and, deeper, {inner} are recorded runs: a suite's folder holds the folders "
            "of its runs and no copies; move the copies away"
        )
    return there[0] if there else []


def _identity(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "suite": content["suite"],
        "run": content["name"],
        "status": content["status"],
        **content["experiment"],
        "data": content["data"]["source"],
        "fingerprint": content["data"]["fingerprint"],
        "is_generated": content["data"]["is_generated"],
        "is_cifar": content["data"].get("is_cifar", not content["data"]["is_generated"]),
        "device": content["environment"]["device"],
        "device_name": device_names(content["environment"]),
    }


def device_names(environment: Mapping[str, Any]) -> str:
    """Of all the parts of a run, in their order."""
    earlier = environment.get("earlier_parts") or ()
    names = [part["device_name"] for part in earlier if "device_name" in part]
    return ", then ".join(dict.fromkeys([*names, environment["device_name"]]))


def _finite(value: Any) -> Any:
    """JSON knows no infinity; a summary says null where epochs.csv has the value."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _epochs_csv(rows: Sequence[EpochRow]) -> str:
    import pandas as pd

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


def _epoch_row(columns: Mapping[str, str]) -> EpochRow:
    values: dict[str, Any] = {}
    for f in fields(EpochRow):
        if f.name.endswith("_blocks"):
            parts = [columns.get(f"{f.name.removesuffix('s')}{i + 1}") for i in range(len(columns))]
            values[f.name] = tuple(float(part or "nan") for part in parts if part is not None)
        elif f.name in columns:
            values[f.name] = _number(columns[f.name], f.type)
    return EpochRow(**values)


def _number(text: str, type_: Any) -> int | float | None:
    if type_ is int:
        return int(text)
    return float(text) if text else None if type_ == float | None else math.nan


_COLUMNS = [f.name for f in fields(EpochRow) if not f.name.endswith("_blocks")]
_REQUIRED = [f.name for f in fields(EpochRow) if f.name in _COLUMNS and f.default is MISSING]
