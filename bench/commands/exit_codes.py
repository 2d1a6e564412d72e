"""Exit codes of the command line."""

DONE = 0
CHECK_FAILED = 1
"""The regression check found a difference, a reproduced run did not come out the same, or a change
for the worse exceeds --fail-above."""
BAD_USAGE = 2
"""Bad usage, bad input or bad data."""
SOME_FAILED = 3
"""Some experiment or case failed."""
INTERRUPTED = 130
