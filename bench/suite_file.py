"""A suite of the user's own in a TOML file: a base suite, and values that replace the base's."""

import argparse
import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from bench.options import OVERRIDES, Option
from bench.suites import SUITES

SUFFIX = ".toml"
KEYS = {option.name: option for option in OVERRIDES}


class SuiteFile(NamedTuple):
    """name: of the new suite, which is the file's. values: option → value, as from the command
    line."""

    name: str
    base: str
    values: dict[str, Any]


def read(file: Path) -> SuiteFile:
    """Read a suite. Its keys are `base` and the options that replace fields of a suite.

    Raises ValueError, saying what to do, when the file is missing or is not such a suite.
    """
    name = file.name.removesuffix(SUFFIX)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{file}: its name is that of a folder of results: use letters, digits, '.', '_', '-'"
        )
    if name.lower() in SUITES:
        raise ValueError(f"{file}: there is a suite {name.lower()} already: rename the file")
    content = _content(file)
    base = content.pop("base", None)
    if not isinstance(base, str):
        raise ValueError(
            f'{file} names no base suite: write base = "NAME", one of {", ".join(SUITES)}'
        )
    values: dict[str, Any] = {}
    for key, given in content.items():
        option = _option(file, key)
        if option.name in values:
            raise ValueError(f"{file}: {key} is given twice: give it once")
        values[option.name] = _value(file, key, option, given)
    return SuiteFile(name, base, values)


def _content(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): name another file") from error
    except ValueError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error


def _option(file: Path, key: str) -> Option:
    if key.replace("-", "_") in KEYS:
        return KEYS[key.replace("-", "_")]
    near = difflib.get_close_matches(key, ["base", *KEYS], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{file}: unknown key {key!r}{hint}: choose from base, {', '.join(KEYS)}")


def _value(file: Path, key: str, option: Option, given: Any) -> Any:
    """Convert the values as the command line does."""
    assert option.type is not None, "no override is a switch"
    items = given if isinstance(given, list) else [given]
    if all(type(item) in (str, int, float) for item in items):
        try:
            value = option.type(",".join(map(str, items)))
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{file}: {key}: {error}") from error
        # A text is not taken for a number, nor a number for a name, nor "a,b" for two names.
        if given == value or (isinstance(value, tuple) and tuple(dict.fromkeys(items)) == value):
            return value
    raise ValueError(
        f"{file}: {key} has the wrong type: write names in quotation marks, numbers without, and "
        "several values as a list"
    )
