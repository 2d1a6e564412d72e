"""A disk that fails, for what this process writes.

Python tells of everything that it is about to do to a file (`sys.addaudithook`), whoever asks for
it, so no write of the product can be forgotten here, and none that is yet to be written. Such a
hook cannot be taken away again; this one looks only while a disk is mounted.
"""

import ctypes
import errno
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FULL, READ_ONLY, FILLING, GONE = "full", "read-only", "filling", "gone"
"""A disk without room; one that refuses removing and renaming as well; one that is full after some
bytes of a file, for which the kernel's own limit is used; and a folder that somebody removes."""

_CHANGES = {  # event → which of its arguments are paths
    **{"os.mkdir": (0,), "os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,)},
    **{"os.remove": (0,), "os.rmdir": (0,), "os.truncate": (0,)},
    **{"os.chmod": (0,), "os.chown": (0,), "os.utime": (0,)},
}
_NEED_ROOM = ("open", "os.mkdir", "os.rename", "os.link", "os.symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Disk:
    """What happens to the writes under some places while it is mounted.

    kind: one of the four; None: nothing. at: with which write it begins, counted from 0. stays:
    whether it goes on then. After the disk is unmounted writes tells what was to be written.
    """

    def __init__(
        self, places: Sequence[Path], kind: str | None = None, at: int = 0, *, stays: bool = True
    ) -> None:
        self.writes: list[str] = []
        self.has_failed = False
        self._places = [os.path.abspath(place) for place in places]
        self._kind, self._at, self._stays = kind, at, stays

    def hears(self, event: str, arguments: tuple) -> None:
        """Raises OSError where the write fails."""
        global _mounted
        if not (self._is_write(event, arguments) and self._concerns(event)):
            return
        count = len(self.writes)
        paths = [str(arguments[i]) for i in _CHANGES.get(event, (0,))]
        self.writes.append(f"{event} {' to '.join(paths)}")
        if self._kind is None or count < self._at or (count > self._at and not self._stays):
            return
        self.has_failed = True
        if self._kind == GONE:
            if count == self._at:
                _mounted = None  # what is done now is not the product's
                shutil.rmtree(self._places[0], ignore_errors=True)
                _mounted = self
        elif self._kind == FILLING:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 + 37 * self._at % 300, _unlimited()))
        else:
            number = errno.ENOSPC if self._kind == FULL else errno.EROFS
            raise OSError(number, os.strerror(number), arguments[0])

    def _is_write(self, event: str, arguments: tuple) -> bool:
        if event == "open":
            path, _, flags = arguments
            return bool(flags & _WRITING) and self._holds(path) and self._takes(path, flags)
        paths = [arguments[i] for i in _CHANGES.get(event, ())]
        if not any(self._holds(path) for path in paths):
            return False
        # Python tells of what is tried: to make what is there, or change what is not, is no write.
        is_there = os.path.lexists(paths[0])
        return not is_there if event == "os.mkdir" else is_there

    def _takes(self, path: str | bytes, flags: int) -> bool:
        """A file that is there already is opened on a full disk, too."""
        return self._kind == READ_ONLY or bool(flags & os.O_TRUNC) or not os.path.lexists(path)

    def _concerns(self, event: str) -> bool:
        if self._kind == FILLING:
            return event == "open"
        return self._kind != FULL or event in _NEED_ROOM

    def _holds(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        full = os.path.abspath(os.fsdecode(path))
        return any(full == place or full.startswith(place + os.sep) for place in self._places)


_mounted: Disk | None = None
_is_heard = False


def _hook(event: str, arguments: tuple) -> None:
    if _mounted is not None and (event == "open" or event in _CHANGES):
        _mounted.hears(event, arguments)


@contextmanager
def mounted(disk: Disk) -> Iterator[Disk]:
    """Inside, what is written under the disk's places is written to it."""
    global _mounted, _is_heard
    if not _is_heard:
        sys.addaudithook(_hook)
        _is_heard = True
    _mounted = disk
    try:
        yield disk
    finally:
        _mounted = None
        resource.setrlimit(resource.RLIMIT_FSIZE, (_unlimited(), _unlimited()))


def _unlimited() -> int:
    return resource.getrlimit(resource.RLIMIT_FSIZE)[1]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Inside, this thread obeys the permissions of files, which root otherwise does not."""
    if os.geteuid():
        yield
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0
