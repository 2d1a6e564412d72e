"""What the person at the command line can mend."""


class UsageError(Exception):
    """Bad usage, bad input or bad data, in one line that says what to do. Exit code 2."""
