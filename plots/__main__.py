"""Draw all figures of folders of records again: python -m plots FOLDER ..."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import plots
from bench.records import FIGURE_FORMATS, UsageError


def main(arguments: Sequence[str]) -> int:
    """Draw each folder's figures and write its report, name the files, and return the exit code."""
    parser = _Parser("python -m plots", description=__doc__)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    parser.add_argument(
        "--format", default=",".join(plots.USUAL.formats), help=", ".join(FIGURE_FORMATS)
    )
    try:
        options = parser.parse_args(arguments)
        formats = tuple(dict.fromkeys(options.format.split(",")))
        for unknown in {*formats} - {*FIGURE_FORMATS}:
            parser.error(f"unknown format {unknown!r}: choose from {', '.join(FIGURE_FORMATS)}")
        for folder in options.folders:
            for file in plots.draw_folder(folder, formats):
                print(f"wrote {file}")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (python -m plots FOLDER ... [--format LIST])")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
