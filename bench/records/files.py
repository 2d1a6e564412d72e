"""Files that are complete or absent."""

import contextlib
import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bench.errors import UsageError

PART = ".part"
"""The end of the name of a file that is still being written."""

FIGURE_FORMATS = ("pdf", "svg", "png", "tex")
"""Formats of figures; "tex" writes tables as LaTeX."""

_PLAIN = re.compile(r"[a-z0-9._-]+(:[a-z0-9_]+=[a-z0-9.-]+)*")
"""A name as it is registered, in lower case, with parameters or without."""


def distinct_name(*parts: str) -> str:
    """A file name that is unique to these parts, also where case does not matter.

    Registered names and numbers stay as they are, joined by hyphens. The letters of other parts,
    such as `package.module:Object`, are replaced where a file name lacks them, and a digest of
    the parts follows.
    """
    name = re.sub(r"[^A-Za-z0-9._=-]+", "_", "-".join(parts))
    if all(_PLAIN.fullmatch(part) for part in parts):
        return name
    return f"{name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]}"


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file beside its place, flush it to the disk, and rename it. Makes its folder."""
    with whole(file) as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """A context that writes as `write_whole`: the file appears if it ends without an error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(file.parent, file.name)
    handle, beside = tempfile.mkstemp(prefix=f".{file.name}-", suffix=PART, dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def remove_parts(folder: Path, name: str = "") -> None:
    """Remove temporary files of killed processes: those of one file, or all.

    The caller holds the lock of what is written there.
    """
    for part in folder.glob(f".{glob.escape(name)}*{PART}"):
        with contextlib.suppress(OSError):
            part.unlink()


def check_writable(folder: Path) -> None:
    """Raise UsageError if the folder cannot be made or written to. Makes nothing."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise UsageError(
            f"cannot write to {folder} ({there} is not a writable folder): choose another --out"
        )


def make_writable(folder: Path) -> None:
    """Make a folder if there is none. Raises UsageError if it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}): choose another --out"
        ) from error
