"""Draw all figures of folders of records again: python -m plots FOLDER ..."""

import sys
from collections.abc import Sequence
from pathlib import Path

import plots
from bench.records import UsageError


def main(arguments: Sequence[str]) -> int:
    """Draw into each folder's `figures/`, name the files, and return the exit code."""
    if not arguments:
        print("error: name one or more folders of records: python -m plots FOLDER ...",
              file=sys.stderr)  # fmt: skip
        return 2
    try:
        for folder in arguments:
            for file in plots.draw_folder(Path(folder)):
                print(f"wrote {file}")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
