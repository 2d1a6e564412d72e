"""What the person at the command line can mend."""


class UsageError(Exception):
    """Bad usage, bad input or bad data, in one line that says what to do. Exit code 2."""


def unwritable(place: str, error: OSError) -> UsageError:
    """What to raise when a record cannot be written."""
    return UsageError(
        f"cannot write {place} ({error.strerror}): mend that and run the same command again; "
        "what is recorded already is kept"
    )
