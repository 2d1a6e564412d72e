"""A run that is not finished, in a file: what it takes to go on with it.

The file is one line, which has the SHA-256 of the rest, and then what `torch.save` writes. It is
read with `weights_only=True`, which builds tensors and plain values and runs no code.
"""

import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from bench import sources
from bench.errors import unwritable
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.records.files import read_whole, write_whole

SCHEMA = 5
"""Of what is in a checkpoint: goes up whenever that changes its meaning."""

NAME = "checkpoint.pt"
_HEAD = re.compile(rb"anode-bench checkpoint, schema (\d{1,9}), sha256 ([0-9a-f]{64})\n")


class DamagedError(Exception):
    """The file is not what was once written."""


class ForeignError(Exception):
    """The checkpoint is whole, but of another run than the one that is to go on."""


@dataclass(frozen=True)
class Owner:
    """Whose checkpoint it is. All of it must be the same when a run goes on: with other data, on
    another device, with another PyTorch or other code of the user's own (`sources.of`) the record
    would be of two different runs."""

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


@dataclass(frozen=True)
class Checkpoint:
    """trainer is `Trainer.state()`, rows are the epochs that are over. parts: the different
    `environment.part()` in which it was made, the last one last. seconds: spent on the run so far.
    resumed_at: in which epochs it was gone on with. started_at: when the run began, in words."""

    owner: Owner
    trainer: Mapping[str, Any]
    rows: tuple[EpochRow, ...]
    peak_bytes: int | None
    parts: tuple[Mapping[str, Any], ...]
    seconds: float
    resumed_at: tuple[int, ...] = ()
    started_at: str = ""


def write(file: Path, checkpoint: Checkpoint) -> None:
    """Write it in place of the last one."""
    # Not all of it with asdict, which would copy every tensor.
    content = {f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint)}
    content["owner"] = asdict(checkpoint.owner)
    content["rows"] = [asdict(row) for row in checkpoint.rows]
    stream = io.BytesIO()
    torch.save(content, stream)
    body = stream.getvalue()
    digest = hashlib.sha256(body).hexdigest()
    head = f"anode-bench checkpoint, schema {SCHEMA}, sha256 {digest}\n"
    write_whole(file, head.encode() + body)


def remove(file: Path) -> None:
    """Remove it where there is one. Raises UsageError when it cannot be removed."""
    try:
        file.unlink(missing_ok=True)
    except NotADirectoryError:
        return
    except OSError as error:
        raise unwritable(str(file), error) from error


def read(file: Path, owner: Owner) -> Checkpoint | None:
    """The checkpoint, its tensors on the CPU; None where there is none.

    Raises DamagedError or ForeignError, which say why, where there is one that is not to be used.
    """
    found = read_any(file)
    if found is None:
        return None
    for part in fields(Owner):
        if getattr(found.owner, part.name) != getattr(owner, part.name):
            raise ForeignError(f"it is of another run: its {part.name} is not this one's")
    return found


def read_any(file: Path) -> Checkpoint | None:
    """What `read` returns, whoever's it is."""
    try:
        content = read_whole(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedError(f"it cannot be read: {error.strerror}") from error
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
        values["owner"] = Owner(**values["owner"])
        values["rows"] = tuple(EpochRow(**row) for row in values["rows"])
        return Checkpoint(**values)
    except pickle.UnpicklingError as error:
        raise DamagedError("it holds more than tensors and plain values") from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        raise DamagedError("it does not hold what a checkpoint holds") from error
