"""Resumable state of a run: one dataclass, written as one dictionary in one file.

The file is one line with the SHA-256 of the rest, then what `torch.save` writes. It is read with
`weights_only=True`, which builds tensors and plain values and runs no code.
"""

import hashlib
import io
import pickle
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import sources
from bench.errors import writing
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.records.files import write_whole

SCHEMA = 6
"""Version of the file's content. Increase it with every change of meaning."""

NAME = "checkpoint.pt"
_HEAD = re.compile(rb"anode-bench checkpoint, schema (\d{1,9}), sha256 ([0-9a-f]{64})\n")


class DamagedError(Exception):
    """The file is not what was once written."""


class ForeignError(Exception):
    """The checkpoint is valid, but belongs to another run."""


@dataclass(frozen=True)
class Owner:
    """The run that a checkpoint belongs to. All fields must be equal when it is resumed.

    data: fingerprint. device: its type. pytorch: version. code: `sources.of` the experiment.
    """

    experiment: Mapping[str, Any]
    data: str
    device: str
    pytorch: str
    code: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, fingerprint: str, device: torch.device) -> "Owner":
        pytorch = str(torch.__version__)
        code = sources.of(experiment)
        return cls(asdict(experiment), fingerprint, device.type, pytorch, code)


@dataclass
class RunState:
    """The whole resumable state of a run: history, running totals of the epoch, training tensors.

    History of the run across resumes:
    started_at: when the run began. seconds: spent on it, up to the last `count_seconds`.
    rows: the finished epochs. resumed_at: the epochs in which it was resumed. parts: the different
    values of `environment.part()`, the current one last. peak_bytes: of one step. correct_images:
    kind of BatchNorm statistics → correctly classified test images after the last epoch, bool (n,).
    notes: lines for the user since the last resume.

    Running totals of the current epoch:
    epoch: its number, from 1. steps: finished steps. loss_sum: over images. n_correct: correct
    predictions. evaluations: of the right-hand sides in one step, forward and backward.
    step_seconds: in steps alone. epoch_seconds: since the epoch began.

    Training, None before the first snapshot:
    network: every weight and buffer by name. optimizer, schedule: their `state_dict`. random,
    device_random: the generators' states. forward_statistics: `ForwardStatistics.tensors`.
    """

    started_at: str = ""
    seconds: float = 0.0
    rows: list[EpochRow] = field(default_factory=list)
    resumed_at: tuple[int, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = ()
    peak_bytes: int | None = None
    correct_images: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    epoch: int = 1
    steps: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    n_correct: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    evaluations: tuple[int, int] = (0, 0)
    step_seconds: float = 0.0
    epoch_seconds: float = 0.0

    network: Mapping[str, Tensor] | None = None
    optimizer: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    random: Tensor | None = None
    device_random: Tensor | None = None
    forward_statistics: Mapping[str, Tensor] | None = None

    _counted: float = field(default_factory=time.perf_counter, init=False, compare=False)

    def count_seconds(self) -> None:
        """Add to `seconds` what passed in this process since the last call."""
        now = time.perf_counter()
        self.seconds += now - self._counted
        self._counted = now

    def begin_epoch(self, epoch: int) -> None:
        """Reset the running totals."""
        self.epoch, self.steps = epoch, 0
        self.loss_sum = torch.zeros_like(self.loss_sum)
        self.n_correct = torch.zeros_like(self.n_correct)
        self.step_seconds = self.epoch_seconds = 0.0


def write(file: Path, owner: Owner, state: RunState) -> None:
    """Write a checkpoint in place of the last one."""
    # Not with asdict, which copies every tensor.
    content = {f.name: getattr(state, f.name) for f in fields(RunState) if f.init}
    content["rows"] = [asdict(row) for row in state.rows]
    content["owner"] = asdict(owner)
    stream = io.BytesIO()
    torch.save(content, stream)
    body = stream.getvalue()
    digest = hashlib.sha256(body).hexdigest()
    head = f"anode-bench checkpoint, schema {SCHEMA}, sha256 {digest}\n"
    write_whole(file, head.encode() + body)


def remove(file: Path) -> None:
    """Remove a checkpoint if it exists. Raises UsageError if it cannot be removed."""
    with writing(file):
        file.unlink(missing_ok=True)


def read(file: Path, owner: Owner) -> RunState | None:
    """Read the owner's checkpoint, tensors on the CPU; None if there is none.

    Raises DamagedError or ForeignError, which say why, if the checkpoint cannot be used.
    """
    content = _read(file)
    if content is None:
        return None
    found, state = content
    for part in fields(Owner):
        if getattr(found, part.name) != getattr(owner, part.name):
            raise ForeignError(f"it is of another run: its {part.name} is not this one's")
    return state


def read_any(file: Path) -> RunState | None:
    """As `read`, whoever owns the checkpoint."""
    content = _read(file)
    return content and content[1]


def _read(file: Path) -> tuple[Owner, RunState] | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    head = _HEAD.match(content)
    if not head:
        raise DamagedError("it does not begin as a checkpoint")
    schema, digest = head.groups()
    body = content[head.end() :]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise DamagedError("its checksum is wrong")
    if int(schema) != SCHEMA:
        raise ForeignError(f"it is of another version, schema {int(schema)} and not {SCHEMA}")
    try:
        values = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        owner = Owner(**values.pop("owner"))
        values["rows"] = [EpochRow(**row) for row in values["rows"]]
        return owner, RunState(**values)
    except pickle.UnpicklingError as error:
        raise DamagedError("it holds more than tensors and plain values") from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        raise DamagedError("it does not hold what a checkpoint holds") from error
