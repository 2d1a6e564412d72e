"""Errors the user can fix, other errors in one line, and exit codes."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DONE = 0
CHECK_FAILED = 1
"""The regression check found a difference, a reproduced run differs from its record, or a change
for the worse exceeds --fail-above."""
BAD_USAGE = 2
"""Bad usage, bad input or bad data."""
SOME_FAILED = 3
"""Some experiment or case failed."""
INTERRUPTED = 130


class UsageError(Exception):
    """Bad usage, bad input or bad data: one line that says what to do. Exit code 2.

    The message may quote foreign text, a file name for example. Characters that cannot be printed
    are escaped, so that the message stays one line and does nothing to a terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(readable(message))


def readable(text: str) -> str:
    """Escape line breaks, terminal sequences and other unprintable characters, as in \\n, \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def check_there(folder: Path) -> None:
    """Raise UsageError when a folder of results has been removed, with its locks and records."""
    if not folder.is_dir():
        raise UsageError(
            f"the folder {folder} is gone, with what was recorded in it: put it back, or run the "
            "same command again to make it anew"
        )


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """A context that raises UsageError if a record cannot be written in it."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write {place} ({error.strerror}): free disk space or choose another --out, "
            "then run the same command again; what is recorded already is kept"
        ) from error


_OUT_OF_MEMORY = (
    *("not enough memory", "can't allocate memory"),  # the host's
    *("cuda error: out of memory", "cublas_status_alloc_failed"),  # not through PyTorch's allocator
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device or the host is out of memory."""
    import torch  # records and figures are read without it

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in message for part in _OUT_OF_MEMORY)


def free_memory(device: "torch.device") -> None:
    """Release what an experiment that ran out of memory may have left allocated."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    """The first line of an error's message; empty where there is none."""
    return readable(str(error).strip().partition("\n")[0])


def in_a_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    kind, message = type(error).__name__, first_line(error)
    return f"{kind}: {message}" if message else kind
