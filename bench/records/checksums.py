"""Records with their checksums, so that damage is seen and nothing wrong is read.

A JSON record has its own SHA-256 as its last entry. Another file's is in a JSON record beside it,
`<name>.json`, with the environments in which its content was measured.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError, unwritable
from bench.records.files import read_whole, write_whole

SCHEMA = 2
"""Of run.json and of what stands beside tables: goes up whenever their meaning changes."""

DAMAGED = ".damaged"
"""What the name of a damaged file ends with once it is set aside."""

_SEAL = "sha256"


class DamagedRecordError(UsageError):
    """A record is not what was once written. files: what it consists of."""

    def __init__(self, file: Path, reason: str, files: Sequence[Path]) -> None:
        self._said = f"{file} is damaged ({reason})"
        super().__init__(
            f"{self._said}: run the suite again, which sets it aside and makes it anew"
        )
        self.files = files

    def set_aside(self) -> str:
        """Rename what there is of the files, and say so in a line. Raises UsageError when that
        cannot be done."""
        names = []
        for file in self.files:
            aside = file.with_name(file.name + DAMAGED)
            try:
                os.replace(file, aside)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unwritable(str(aside), error) from error
            names.append(aside.name)
        return f"{self._said}: made anew, and kept as {' and '.join(names)}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def dumps(content: Mapping[str, Any]) -> str:
    """A JSON record."""
    return json.dumps({**content, _SEAL: _checksum(content)}, indent=2, allow_nan=False) + "\n"


def loads(text: bytes) -> dict[str, Any]:
    """The content of a JSON record. Raises ValueError when it is not what was written."""
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

    Raises UsageError when it is missing or of another version, as DamagedRecordError when it or
    its JSON record is not what was written.
    """
    both = (file, beside(file))
    if not file.exists():
        raise UsageError(f"there is no {file}: run the suite first")
    try:
        content = read_whole(file)
    except OSError as error:
        raise DamagedRecordError(file, f"it cannot be read: {error.strerror}", both) from error
    record = _record(file)
    if record.get("schema", SCHEMA) != SCHEMA:
        raise other_version(file, record["schema"])
    if sha256(content) not in record.get("file_sha256", ()):
        reason = "its checksum is wrong" if record else f"there is no whole {both[1].name}"
        raise DamagedRecordError(file, reason, both)
    return content


def beside(file: Path) -> Path:
    """Where a file's JSON record is."""
    return file.with_suffix(".json")


def environments(file: Path) -> list[Mapping[str, Any]]:
    """In which the content of a file was measured; none where there is no record of it."""
    return list(_record(file).get("environments", ()))


def other_version(file: Path, schema: object) -> UsageError:
    return UsageError(
        f"{file} was written by another version (schema {schema}, not {SCHEMA}): use another --out"
    )


def _record(file: Path) -> dict[str, Any]:
    """The JSON record beside a file; empty where there is none that is whole."""
    try:
        return loads(read_whole(beside(file)))
    except (OSError, ValueError, RecursionError):
        return {}
