"""Files that are complete or absent."""

import contextlib
import os
import tempfile
from pathlib import Path

PART = ".part"
"""What the name of a file ends with that is still being written."""


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file beside its place, on the disk, then rename it. Makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{file.name}-", suffix=PART, dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def remove_parts(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left. For whoever alone writes
    there."""
    for part in folder.glob(f".*{PART}"):
        with contextlib.suppress(OSError):
            part.unlink()
