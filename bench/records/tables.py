"""Tables of measurements, one row for each instance of a dataclass."""

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.errors import UsageError
from bench.records import checksums
from bench.records.checksums import sha256
from bench.records.files import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")

RENAMED = {"layout": "memory_format", "yardstick": "reference_seconds"}
"""Column of older records → its present name."""


def write_rows(
    file: Path, kind: type[Row], rows: Iterable[Row], environments: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a table in place of the one that is there, and beside it its checksum and the
    environments in which the rows were measured."""
    checksums.write(file, _csv(kind, rows).encode(), environments)


def read_rows(file: Path, kind: type[Row]) -> list[Row]:
    """The rows of a table that `write_rows` wrote.

    Raises UsageError if the file is missing or has other columns, DamagedRecordError if it is
    damaged.
    """
    content = checksums.read(file)
    try:
        return as_rows(parse(content), kind)
    except TypeError as error:
        raise UsageError(
            f"{file} was written by another version or suite ({error}): move it away, or use "
            "another --out"
        ) from error


def write_reference(file: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Write a table whose first line states its kind, version and checksum."""
    table = _csv(kind, rows)
    head = f"# {kind.__name__}, schema {checksums.SCHEMA}, sha256 {sha256(table.encode())}\n"
    write_whole(file, head + table)


def read_reference(file: Path, kind: type[Row]) -> list[Row]:
    """The rows of a table that `write_reference` wrote.

    Raises UsageError if the file is missing, damaged, of another version or of another kind.
    """
    remedy = "restore it, or move it away and make one with --update-reference"
    if not file.exists():
        raise UsageError(f"there is no reference {file}: make one with --update-reference")
    try:
        head, _, table = file.read_bytes().partition(b"\n")
        found = re.fullmatch(rb"# (\w+), schema (\d+), sha256 ([0-9a-f]{64})", head)
        if not found:
            raise ValueError("it does not begin as one")
        name, schema = found[1].decode(), int(found[2])
        if schema != checksums.SCHEMA or name != kind.__name__:
            raise UsageError(
                f"{file} is of another version or suite ({name}, schema {schema}, not "
                f"{kind.__name__}, schema {checksums.SCHEMA}): {remedy}"
            )
        if sha256(table) != found[3].decode():
            raise ValueError("its checksum is wrong")
        return as_rows(parse(table), kind)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{file} is not a complete reference: {remedy}") from error


def parse(content: bytes) -> "pd.DataFrame":
    """Read a table into a frame, without rounding any number."""
    import pandas as pd  # takes half a second, which --status does not need

    with warnings.catch_warnings():
        # Before pandas 3 other precisions lose the last bit; from 3.1 on naming it warns.
        warnings.simplefilter("ignore")
        frame = pd.read_csv(io.BytesIO(content), float_precision="round_trip")
    return frame.rename(columns=RENAMED)


def as_rows(frame: "pd.DataFrame", kind: type[Row]) -> list[Row]:
    """The rows of a table with this kind's columns."""
    types = {field.name: field.type for field in fields(kind)}
    return [
        kind(**{str(name): as_written(value, types.get(str(name))) for name, value in row.items()})
        for row in frame.to_dict("records")
    ]


def as_written(value: Any, type_: Any) -> Any:
    """A value as it was written: an empty field, which pandas reads as NaN, is None or ""."""
    if value != value and type_ in (str, int | None, float | None):
        return "" if type_ is str else None
    return int(value) if type_ == int | None else value


def _csv(kind: type[Row], rows: Iterable[Row]) -> str:
    import pandas as pd

    # As objects: beside a None pandas would make floats of whole numbers.
    columns = [field.name for field in fields(kind)]
    return pd.DataFrame([asdict(row) for row in rows], columns=columns, dtype=object).to_csv(
        index=False
    )
