"""The packages of the optional extra `peers`, imported when they are needed."""

import importlib
from typing import Any

from bench.errors import in_a_line

INSTALL = "pip install -e .[peers]"


def package(name: str) -> Any:
    """Import a module. Raises ValueError when it is not installed or cannot be imported."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: {INSTALL}") from error
    except Exception as error:  # importing it runs foreign code
        raise ValueError(f"{name} cannot be imported here: {in_a_line(error)}") from error
