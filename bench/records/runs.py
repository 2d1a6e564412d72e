"""Training runs: run.json and epochs.csv."""

import base64
import csv
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UsageError
from bench.records import checksums
from bench.records.checksums import DamagedRecordError
from bench.records.conditions import conditions_of
from bench.records.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

RUN, EPOCHS = "run.json", "epochs.csv"
ARCHIVE = ".aside-"
"""Part of the name of an archive of results, which is read only if it is named itself."""

RESULTS = ("ok", "diverged", "oom")
"""The statuses that are results. The other one is "failed": such a run is tried again."""


@dataclass(frozen=True)
class EpochRow:
    """Observations of one epoch. docs/results.md says what each column means.

    Errors are None for a baseline. The two tuples hold one value for each ODE block, in the order
    of the network; in epochs.csv they become columns gradient_error_block1, ….
    A column that is added later has a default, so that older records can be read.
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


ADDED_COLUMNS = {f.name for f in fields(EpochRow) if f.default is None}
"""Columns that the first version did not have: None in its records."""

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
    """One recorded training run. reason: in words, why the status is not "ok".

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
    import pandas as pd

    folder = run.folder(results)
    # Until the new run.json is there, the files of an earlier try are not a record.
    (folder / RUN).unlink(missing_ok=True)
    epochs = pd.DataFrame(map(_columns, run.epochs), columns=None if run.epochs else _COLUMNS)
    table = epochs.to_csv(index=False).encode()
    write_whole(folder / EPOCHS, table)
    content = {"schema": checksums.SCHEMA, **asdict(run)}
    del content["epochs"]
    content["summary"] = {name: _finite(value) for name, value in run.summary.items()}
    content["epochs_sha256"] = checksums.sha256(table)
    write_whole(folder / RUN, checksums.dumps(content))
    return folder


def load(path: str | Path, names: Collection[str] | None = None) -> "pd.DataFrame":
    """Load the epochs of all runs under the folder of a run, of a suite, or of all results.

    names: those of the runs of a suite to load. One row for each epoch of each run, with the
    columns of epochs.csv and before them `suite`, `run`, `status`, every field of the experiment,
    and `data`, `fingerprint`, `is_generated`, `is_cifar`, `device` and `device_name`. Raises
    UsageError if there is no record, or one is damaged or of another version.
    """
    import pandas as pd

    runs = _some_runs(Path(path), names)
    rows = [{**_identity(run), **_columns(row)} for run in runs for row in run.epochs]
    no_row = [{**_identity(runs[0]), **dict.fromkeys(_COLUMNS)}]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(no_row).iloc[:0]
    # A column without any value is one of missing numbers.
    return frame.astype({f.name: float for f in fields(EpochRow) if f.type == float | None})


def load_runs(path: str | Path, names: Collection[str] | None = None) -> "pd.DataFrame":
    """Load runs as `load` does, one row each.

    Columns: those of `load` before the ones of an epoch, `reason`, the conditions of the
    environment, and the summary.
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {
                **_identity(run),
                "reason": run.reason,
                **conditions_of(run.environment),
                **run.summary,
            }
            for run in _some_runs(Path(path), names)
        ]
    )


def load_correct(folder: Path) -> "pd.DataFrame":
    """Load which test images a recorded run classified correctly after its last epoch.

    One row for each test image, in the order of the data set, and one bool column for each kind of
    BatchNorm statistics; no row for a record that does not have it. Raises UsageError as `load`.
    """
    import pandas as pd

    return pd.DataFrame(correct_of(*_some_runs(folder, None)))


def correct_of(run: Run) -> dict[str, np.ndarray]:
    """Kind of BatchNorm statistics → bool (n,): the test images that were classified correctly."""
    n_images = run.experiment["test_images"] or run.data.get("test_images", 0)
    return {kind: _unpacked(bits, n_images) for kind, bits in run.correct.items()}


def packed(correct: np.ndarray) -> str:
    """A bool array as text: one bit an element, in base64."""
    return base64.b64encode(np.packbits(correct)).decode()


def _unpacked(bits: str, count: int) -> np.ndarray:
    found = np.frombuffer(base64.b64decode(bits), dtype=np.uint8)
    return np.unpackbits(found, count=count).astype(bool)


def read_run(folder: Path) -> Run | None:
    """Read a recorded run with its epochs; None if nothing is recorded there.

    Raises UsageError if the record is of another version, DamagedRecordError if one of its two
    files is not what was written.
    """
    file, epochs = folder / RUN, folder / EPOCHS
    try:
        content = checksums.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedRecordError(file, "it is not what was written", (file, epochs)) from error
    if content["schema"] != checksums.SCHEMA:
        raise checksums.other_version(file, content["schema"])
    if content["name"] != folder.absolute().name:
        reason = f"it is the record of {content['name']}"
        raise DamagedRecordError(file, reason, (file, epochs))
    table = epochs.read_bytes() if epochs.exists() else b""
    if checksums.sha256(table) != content["epochs_sha256"]:
        raise DamagedRecordError(epochs, "its checksum is wrong", (file, epochs))
    values = {f.name: content[f.name] for f in fields(Run) if f.name in content}
    rows = csv.DictReader(io.StringIO(table.decode()))
    return Run(**values, epochs=[_epoch_row(row) for row in rows])


def read_runs(path: Path, names: Collection[str] | None = None) -> list[Run]:
    """Read runs as `load` does; none if nothing is recorded."""
    folders = sorted(_folders(path)) if names is None else [path / name for name in sorted(names)]
    found = {folder: run for folder in folders if (run := read_run(folder))}
    first: dict[tuple[str, str], Path] = {}
    for folder, run in found.items():
        other = first.setdefault((run.suite, run.name), folder)
        if other != folder:
            raise UsageError(
                f"{other} and {folder} record one experiment: load one of them, or move a copy away"
            )
    return [*found.values()]


def _some_runs(path: Path, names: Collection[str] | None) -> list[Run]:
    found = read_runs(path, names)
    if not found:
        what = "no recorded run" if names is None else "none of the runs is recorded"
        raise UsageError(f"{what} under {path}: run the suite first")
    return found


def _folders(path: Path) -> Iterator[Path]:
    """The folders of runs: `path` itself, or those in the suite `path` and in suites in `path`."""
    if (path / RUN).exists():
        yield path
        return
    for pattern in (f"*/{RUN}", f"*/*/{RUN}"):
        for file in path.glob(pattern):
            if ARCHIVE not in str(file.relative_to(path)):
                yield file.parent


def _identity(run: Run) -> dict[str, Any]:
    return {
        "suite": run.suite,
        "run": run.name,
        "status": run.status,
        **run.experiment,
        "data": run.data["source"],
        "fingerprint": run.data["fingerprint"],
        "is_generated": run.data["is_generated"],
        "is_cifar": run.data.get("is_cifar", not run.data["is_generated"]),
        "device": run.environment["device"],
        "device_name": device_names(run.environment),
    }


def device_names(environment: Mapping[str, Any]) -> str:
    """The devices of all parts of a run, in their order."""
    earlier = environment.get("earlier_parts") or ()
    names = [part["device_name"] for part in earlier if "device_name" in part]
    return ", then ".join(dict.fromkeys([*names, environment["device_name"]]))


def _finite(value: Any) -> Any:
    """Replace a number that is not finite, which JSON lacks, by None; epochs.csv has its value."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _columns(row: EpochRow) -> dict[str, Any]:
    """Column of epochs.csv → value; a tuple becomes one column for each ODE block."""
    columns: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name.endswith("_blocks"):
            stem = name.removesuffix("s")
            columns |= {f"{stem}{i}": part for i, part in enumerate(value, start=1)}
        else:
            columns[name] = value
    return columns


def _epoch_row(columns: Mapping[str, str]) -> EpochRow:
    values: dict[str, Any] = {}
    for f in fields(EpochRow):
        if f.name.endswith("_blocks"):
            stem = f.name.removesuffix("s")
            parts = [text for name, text in columns.items() if name.startswith(stem)]
            values[f.name] = tuple(float(text or "nan") for text in parts)
        elif f.name in columns:
            values[f.name] = _number(columns[f.name], f.type)
    return EpochRow(**values)


def _number(text: str, type_: Any) -> int | float | None:
    if not text:  # as pandas writes None and NaN
        return None if type_ == float | None else math.nan
    return int(text) if type_ is int else float(text)


_COLUMNS = [f.name for f in fields(EpochRow) if not f.name.endswith("_blocks")]
