"""What the person at the command line can mend."""

from pathlib import Path


class UsageError(Exception):
    """Bad usage, bad input or bad data, in one line that says what to do. Exit code 2.

    It may quote what somebody else wrote, the name of a file say. Characters that are none to be
    read are spelled out in it, so that it stays one line and does nothing to a terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(readable(message))


def readable(text: str) -> str:
    """The text with line breaks, escape sequences and the like spelled out, as in \\n and \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def check_there(folder: Path) -> None:
    """Raises UsageError when a folder of results is gone that was there: its locks are gone with
    it, and what was recorded."""
    if not folder.is_dir():
        raise UsageError(
            f"the folder {folder} is gone, with what was recorded in it: put it back, or run the "
            "same command again to make it anew"
        )


def unwritable(place: str, error: OSError) -> UsageError:
    """What to raise when a record cannot be written."""
    return UsageError(
        f"cannot write {place} ({error.strerror}): mend that and run the same command again; "
        "what is recorded already is kept"
    )
