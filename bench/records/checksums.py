"""Checksums of records, so that damage is seen and nothing damaged is read.

A JSON record has its own SHA-256 as its last entry. That of another file is in a JSON record beside
it, `<name>.json`, with the environments in which its content was measured.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError, writing
from bench.records.files import write_whole

SCHEMA = 2
"""Version of run.json and of the records beside tables: goes up whenever their meaning changes."""

DAMAGED = ".damaged"
"""The end of the name of a damaged file that was renamed."""

_SEAL = "sha256"


class DamagedRecordError(UsageError):
    """A record is damaged. files: those that it consists of."""

    def __init__(self, file: Path, reason: str, files: Sequence[Path]) -> None:
        self.damage = f"{file} is damaged ({reason})"
        super().__init__(f"{self.damage}: run the suite again, which renames it and repeats it")
        self.files = files

    def rename_files(self) -> str:
        """Rename the files and return a line about it. Raises UsageError if that is impossible."""
        names = []
        for file in filter(Path.exists, self.files):
            renamed = file.with_name(file.name + DAMAGED)
            with writing(renamed):
                os.replace(file, renamed)
            names.append(renamed.name)
        return f"{self.damage}: made anew, and kept as {' and '.join(names)}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def dumps(content: Mapping[str, Any]) -> str:
    """A JSON record."""
    return json.dumps({**content, _SEAL: _checksum(content)}, indent=2, allow_nan=False) + "\n"


def loads(text: bytes) -> dict[str, Any]:
    """The content of a JSON record. Raises ValueError if it is not what was written."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop(_SEAL, None) != _checksum(content):
        raise ValueError("its checksum is wrong")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content).encode())


def write(file: Path, content: bytes, environments: Sequence[Mapping[str, Any]]) -> None:
    """Write a file in place of the one that is there, and its JSON record."""
    # For one moment the record is there and the file is still the old one.
    old = file.is_file() and sha256(file.read_bytes())
    checksums = [sha256(content), *({old} & {*_record(file).get("file_sha256", ())})]
    record = {"schema": SCHEMA, "file_sha256": checksums, "environments": [*environments]}
    write_whole(beside(file), dumps(record))
    write_whole(file, content)


def read(file: Path) -> bytes:
    """The content of a file that `write` wrote.

    Raises UsageError if it is missing or of another version, DamagedRecordError if it or its JSON
    record is not what was written.
    """
    if not file.exists():
        raise UsageError(f"there is no {file}: run the suite first")
    content, record = file.read_bytes(), _record(file)
    if record.get("schema", SCHEMA) != SCHEMA:
        raise other_version(file, record["schema"])
    if sha256(content) not in record.get("file_sha256", ()):
        reason = "its checksum is wrong" if record else f"there is no whole {beside(file).name}"
        raise DamagedRecordError(file, reason, (file, beside(file)))
    return content


def beside(file: Path) -> Path:
    """The place of a file's JSON record."""
    return file.with_suffix(".json")


def environments(file: Path) -> list[Mapping[str, Any]]:
    """The environments in which the content of a file was measured; empty if it has no record."""
    return list(_record(file).get("environments", ()))


def other_version(file: Path, schema: object) -> UsageError:
    return UsageError(
        f"{file} was written by another version (schema {schema}, not {SCHEMA}): use another --out"
    )


def _record(file: Path) -> dict[str, Any]:
    """The JSON record beside a file; empty if there is none that is whole."""
    try:
        return loads(beside(file).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
