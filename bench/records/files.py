"""Files that are complete or absent."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bench.errors import UsageError

if sys.platform != "win32":
    import fcntl

PART = ".part"
"""What the name of a file ends with that is still being written."""


FIGURE_FORMATS = ("pdf", "svg", "png", "tex")
"""What figures are written as; with "tex", tables are written as LaTeX."""


_PLAIN = re.compile(r"[a-z0-9._-]+(:[a-z0-9_]+=[a-z0-9.-]+)*")
"""A name as it is registered, in lower case, with parameters or without."""


def distinct_name(*parts: str) -> str:
    """A name for a file or folder that no other parts give, whether case matters there or not.

    Registered names and numbers stay as they are, joined by hyphens. The letters of other parts,
    such as `package.module:Object`, are replaced where a file name lacks them, and a digest of
    the parts follows.
    """
    name = re.sub(r"[^A-Za-z0-9._=-]+", "_", "-".join(parts))
    if all(_PLAIN.fullmatch(part) for part in parts):
        return name
    return f"{name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]}"


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file beside its place, on the disk, then rename it. Makes its folder."""
    with whole(file) as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """The same for what is written piece by piece: the file is there when the context ends, and
    what is raised in it leaves nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(file.parent, file.name)
    handle, beside = tempfile.mkstemp(prefix=f".{file.name}-", suffix=PART, dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            with contextlib.suppress(OSError):  # not every file system has locks
                _lock(handle)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def read_whole(file: Path) -> bytes:
    """The content of a file. Raises OSError where there is none, and at once where what is there
    is a pipe or a device."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    return file.read_bytes()


def remove_parts(folder: Path, name: str = "") -> None:
    """Remove what processes that were killed while they wrote have left in a folder, of the file of
    that name or of all. Where it cannot be removed it is left."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            parts = [e.path for e in entries if e.name.startswith(f".{name}") and _is_part(e)]
        for part in parts:
            with contextlib.suppress(OSError), _unused(part):
                os.unlink(part)


def _is_part(entry: "os.DirEntry[str]") -> bool:
    return entry.name.endswith(PART) and entry.is_file(follow_symlinks=False)


@contextmanager
def _unused(part: str) -> Iterator[None]:
    """Context in which no process writes the part. Raises OSError when one does."""
    if sys.platform == "win32":  # the system does not remove a file that is open
        yield
        return
    with open(part, "r+b") as stream:
        _lock(stream.fileno())
        yield


def _lock(handle: int) -> None:
    """Mark a part as being written. Raises OSError when another process writes it.

    A lock of the file itself: filelock locks through a second handle, which on Windows would keep
    the first one from writing.
    """
    if sys.platform != "win32":
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_writable(folder: Path) -> None:
    """Raises UsageError when the folder cannot be made; makes nothing."""
    try:
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
        reason = "it is not writable" if there.is_dir() else "it is no folder"
    except OSError as error:
        there, reason = folder, str(error.strerror)
    raise UsageError(f"cannot write to {folder} ({there}: {reason}): choose another --out")


def make_writable(folder: Path) -> None:
    """Make a folder where there is none. Raises UsageError when it cannot be made, or nothing
    can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}): choose another --out"
        ) from error
