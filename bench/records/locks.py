"""Locks by which several processes share the work on one folder of results.

The locks are flock's: the kernel releases the lock of a process that ends, so none is ever stale.
Their files stay, empty, in `<suite>/.locks`: to delete one would give two processes a lock each, on
two files of the same name.

On a network file system they hold between machines if it passes flock on: NFS on Linux with its
lock service, Lustre mounted with `flock`.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import UsageError

LOCKS = ".locks"
SECONDS_BETWEEN_LOOKS = 1.0

WAITING = "another process is measuring in this folder: waiting until it has"

MEASUREMENTS = "measurements.csv"
FIGURES = "figures"
"""Names of the locks beside those of runs. No run has one of these names."""


@contextmanager
def claim(suite_folder: Path, name: str) -> Iterator[bool]:
    """A context in which this process holds the lock of that name; yields False if another does.

    Raises UsageError if the file system has no locks, or no room for one.
    """
    lock = FileLock(suite_folder / LOCKS / f"{name}.lock")
    try:
        (suite_folder / LOCKS).mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(blocking=False)
    except OSError as error:
        raise UsageError(
            f"cannot lock {lock.lock_file} ({error.strerror}): choose another --out with free "
            "space, on a disk of this machine or on a network file system that passes locks on"
        ) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def no_trace_of_errors(suite_folder: Path) -> Iterator[None]:
    """A context in which a folder of results is used. If it ends with an error and the folder is
    new and holds nothing but locks, the folders that were made are removed."""
    made = [f for f in (suite_folder, *suite_folder.absolute().parents) if not f.exists()]
    is_new = not (suite_folder / LOCKS).exists()
    try:
        yield
    except BaseException:
        files = [*(suite_folder / LOCKS).glob("*.lock")]
        held = any(is_held(suite_folder, file.name.removesuffix(".lock")) for file in files)
        if is_new and not held and {f.name for f in suite_folder.glob("*")} <= {LOCKS}:
            shutil.rmtree(suite_folder / LOCKS, ignore_errors=True)
            with suppress(OSError):  # another process has begun to use one
                for folder in made:
                    folder.rmdir()
        raise


def is_held(suite_folder: Path, name: str) -> bool:
    """Return whether a process holds the lock of that name. Creates no file."""
    file = suite_folder / LOCKS / f"{name}.lock"
    if not file.exists():
        return False
    try:
        with FileLock(file, blocking=False):
            return False
    except OSError as error:  # Timeout, or a folder in which locks cannot be read
        return isinstance(error, Timeout)


@contextmanager
def wait_for(
    suite_folder: Path, name: str, busy: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """A context that holds the lock of that name. `busy` is called once if it must wait for it."""
    for attempt in itertools.count():
        with claim(suite_folder, name) as is_ours:
            if is_ours:
                yield
                return
        if attempt == 0:
            busy()
        time.sleep(SECONDS_BETWEEN_LOOKS)
