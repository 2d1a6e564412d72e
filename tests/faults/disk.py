"""A simulated disk that fails while this process writes to it.

Python reports each operation on a file to `sys.addaudithook` before it happens, so every write of
the product is seen here. A hook cannot be removed; this one acts only while a disk is mounted.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL, READ_ONLY = errno.ENOSPC, errno.EROFS
"""FULL has no room for what is new. READ_ONLY also refuses to remove, rename and overwrite."""

_PATHS = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.chmod": 1}
"""Event → how many of its arguments are paths."""

_NEED_ROOM = ("open", "os.mkdir", "os.rename")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Disk:
    """Failures of the writes under a folder.

    kind: how they fail. at: the first write that fails, counted from 0. stays: whether later writes
    fail too. writes: what was about to be written, in order.
    """

    def __init__(self, folder: Path, kind: int, at: int, *, stays: bool = True) -> None:
        self.writes: list[str] = []
        self.has_failed = False
        self._folder = os.path.abspath(folder) + os.sep
        self._kind, self._at, self._stays = kind, at, stays

    def handle(self, event: str, arguments: tuple) -> None:
        """Count a write; raise OSError where it fails."""
        if not self._is_write(event, arguments):
            return
        count = len(self.writes)
        paths = map(str, arguments[: _PATHS.get(event, 1)])
        self.writes.append(f"{event} {' to '.join(paths)}")
        if count >= self._at and (self._stays or count == self._at):
            self.has_failed = True
            raise OSError(self._kind, os.strerror(self._kind), arguments[0])

    def _is_write(self, event: str, arguments: tuple) -> bool:
        if not any(map(self._holds, arguments[: _PATHS.get(event, 1)])):
            return False
        exists = os.path.lexists(arguments[0])
        if event == "open":  # a file that exists can be opened on a full disk, too
            makes = self._kind == READ_ONLY or arguments[2] & os.O_TRUNC or not exists
            return bool(arguments[2] & _WRITING and makes)
        # Attempts are reported as well: to make what exists, or to change what does not.
        is_change = not exists if event == "os.mkdir" else exists
        return is_change and (self._kind == READ_ONLY or event in _NEED_ROOM)

    def _holds(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return (os.path.abspath(os.fsdecode(path)) + os.sep).startswith(self._folder)


_mounted: Disk | None = None
_has_hook = False


def _hook(event: str, arguments: tuple) -> None:
    if _mounted is not None and (event == "open" or event in _PATHS):
        _mounted.handle(event, arguments)


@contextmanager
def mounted(disk: Disk) -> Iterator[None]:
    """Let the disk handle the writes under its folder inside this context."""
    global _mounted, _has_hook
    if not _has_hook:
        sys.addaudithook(_hook)
        _has_hook = True
    _mounted = disk
    try:
        yield
    finally:
        _mounted = None
