"""The places of the references that regression checks compare with."""

from importlib import resources
from pathlib import Path

_PACKAGE = Path(str(resources.files("bench")))
_OF_CHECKOUT = _PACKAGE.parent / "results" / "reference"
_INSTALLED = _PACKAGE / "references"
"""Folder into which setup.py installs the references of the checkout."""


def are_installed() -> bool:
    """Return whether the references belong to an installed package, which is never written to."""
    return not (_PACKAGE.parent / "pyproject.toml").is_file()


def reference_of(study: str) -> Path:
    """The file with a study's reference: in a checkout results/reference/STUDY.csv."""
    return (_INSTALLED if are_installed() else _OF_CHECKOUT) / f"{study}.csv"
