"""Tables of what is measured, a row for each dataclass instance."""

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


def write_rows(
    file: Path,
    kind: type[Row],
    rows: Iterable[Row],
    environments: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a table in place of what was there, and beside it its checksum and the environments
    in which the rows were measured."""
    checksums.write(file, _csv(kind, rows).encode(), environments)


def read_rows(file: Path, kind: type[Row]) -> list[Row]:
    """The rows of a table that `write_rows` wrote.

    Raises UsageError when the file is missing or of another version, which other columns tell, as
    DamagedRecordError when it is damaged.
    """
    numbers = {f.name for f in fields(kind) if f.type in (int, float, int | None, float | None)}
    content = checksums.read(file)
    try:
        return as_rows(parse(content, [field.name for field in fields(kind)], numbers), kind)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{file} was written by another version or suite ({error}): move it away, or use "
            "another --out"
        ) from error


def write_reference(file: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Write a table that says of itself what it is, and what its checksum is."""
    table = _csv(kind, rows)
    head = f"# {kind.__name__}, schema {checksums.SCHEMA}, sha256 {sha256(table.encode())}\n"
    write_whole(file, head + table)


def read_reference(file: Path, kind: type[Row]) -> list[Row]:
    """The rows of a table that `write_reference` wrote.

    Raises UsageError when the file is missing, damaged, of another version or of another kind.
    """
    anew = "restore it, or move it away and make one with --update-reference"
    if not file.exists():
        raise UsageError(f"there is no reference {file}: make one with --update-reference")
    if file.is_dir():
        raise UsageError(f"{file} is a folder: name a file with --reference")
    try:
        head, _, table = file.read_bytes().partition(b"\n")
        found = re.fullmatch(rb"# (\w+), schema (\d+), sha256 ([0-9a-f]{64})", head)
        if not found:
            raise ValueError("it does not begin as one")
        name, schema = found[1].decode(), int(found[2])
        if schema != checksums.SCHEMA or name != kind.__name__:
            raise UsageError(
                f"{file} is of another version or suite ({name}, schema {schema}, not "
                f"{kind.__name__}, schema {checksums.SCHEMA}): {anew}"
            )
        if sha256(table) != found[3].decode():
            raise ValueError("its checksum is wrong")
        return as_rows(parse(table), kind)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{file} is no whole reference: {anew}") from error


def parse(
    content: bytes, columns: Sequence[str] = (), numeric: Iterable[str] = ()
) -> "pd.DataFrame":
    """A table that has these columns, some of its columns numbers. Raises ValueError or TypeError
    where it is not one."""
    import pandas as pd  # takes half a second, which --status does not need

    with warnings.catch_warnings():
        # Before pandas 3 other precisions lose the last bit; from 3.1 on naming it warns.
        warnings.simplefilter("ignore")
        frame = pd.read_csv(io.BytesIO(content), float_precision="round_trip")
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(f"there is no column {missing[0]}")
    for name in set(numeric) & set(frame.columns):
        frame[name] = pd.to_numeric(frame[name])
    return frame


def as_rows(frame: "pd.DataFrame", kind: type[Row]) -> list[Row]:
    """The rows of a table with this kind's columns."""
    types = {field.name: field.type for field in fields(kind)}
    return [
        kind(**{str(name): as_written(value, types.get(str(name))) for name, value in row.items()})
        for row in frame.to_dict("records")
    ]


def as_written(value: Any, type_: Any) -> Any:
    """A value as it was written: an empty field is None, or "", where that can be."""
    if type_ in (int | None, float | None) and (value is None or value != value):
        return None
    if type_ == int | None:
        return int(value)
    return "" if type_ is str and value != value else value


def _csv(kind: type[Row], rows: Iterable[Row]) -> str:
    import pandas as pd

    # As objects: beside a None pandas would make floats of whole numbers.
    columns = [field.name for field in fields(kind)]
    return pd.DataFrame([asdict(row) for row in rows], columns=columns, dtype=object).to_csv(
        index=False
    )
