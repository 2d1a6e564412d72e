"""Which process works where, so that several share the work on one folder of results.

The locks are flock's: the kernel releases the lock of a process that ends, however it ends, so one
that is left by a dead process does not exist. Their files stay, empty, in `<suite>/.locks`: to
delete one would give two processes a lock each, on two files of the same name.

On a network file system they hold between machines where that passes flock on: NFS on Linux with
its lock service, Lustre mounted with `flock`.
"""

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import UsageError, unwritable

LOCKS = ".locks"
SECONDS_BETWEEN_LOOKS = 1.0

WAITING = "another process is measuring in this folder: waiting until it has"

MEASUREMENTS = "measurements.csv"
FIGURES = "figures"
"""What is locked besides the runs, under their names. No run's name is one of these."""


_FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What says nothing about locks."""


@contextmanager
def claim(suite_folder: Path, name: str) -> Iterator[bool]:
    """Whether this process may work on what has that name, which none other may inside.

    Raises UsageError where the file system has no locks, or no room for one.
    """
    folder = suite_folder / LOCKS
    lock = FileLock(folder / f"{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout):
            lock.acquire(blocking=False)
    except OSError as error:
        if error.errno in _FULL_OR_READ_ONLY:
            raise unwritable(str(lock.lock_file), error) from error
        raise UsageError(
            f"cannot lock {lock.lock_file} ({error.strerror}): choose another --out, on a disk of "
            "this machine or on a network file system that passes locks on"
        ) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_free(suite_folder: Path, name: str) -> bool:
    """Whether no process works on what has that name just now."""
    with claim(suite_folder, name) as is_ours:
        return is_ours


def is_held(suite_folder: Path, name: str) -> bool:
    """Whether a process works on what has that name just now. Creates no file."""
    file = suite_folder / LOCKS / f"{name}.lock"
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


@contextmanager
def wait_for(
    suite_folder: Path, name: str, busy: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Inside, no other process works on what has that name. `busy` is called when one does, and
    has to be waited for."""
    said = False
    while True:
        with claim(suite_folder, name) as is_ours:
            if is_ours:
                yield
                return
        if not said:
            busy()
            said = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
