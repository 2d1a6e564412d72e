"""The help and the version of the command line, without PyTorch."""

from collections.abc import Sequence
from importlib import resources

import bench


def answer(arguments: Sequence[str]) -> str | None:
    """Return the text if the arguments ask for help or the version, else None.

    The help lists networks and methods, whose modules need PyTorch, so it is kept in help.txt. A
    test compares it with the parser.
    """
    if {"-h", "--help"} & {*arguments}:
        return (resources.files("bench") / "help.txt").read_text(encoding="utf-8")
    return f"anode-bench {bench.__version__}\n" if "--version" in arguments else None
