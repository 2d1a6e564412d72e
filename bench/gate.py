"""A suite that trains nothing, from the command line: run it, check it, renew its reference."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import records
from bench.errors import UsageError
from bench.records import MEASUREMENTS, Picture
from bench.regression import Finding, compare, describe, needs_reference

DONE, CHECK_FAILED = 0, 1


@dataclass(frozen=True)
class Measuring:
    """What is measured: `measure` makes rows, of type `row`, of each of the cases.

    pictures is filled while they are measured; None where the suite makes none.
    """

    cases: Sequence[Any]
    measure: Callable[[Any], list[Any]]
    row: type[Any]
    device: torch.device
    console: Console
    pictures: list[Picture] | None = None

    def rows(self) -> list[Any]:
        steps = track(
            self.cases,
            "measuring",
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        return [row for case in steps for row in self.measure(case)]

    def write(self, file: Path, rows: Iterable[Any]) -> None:
        try:
            records.write_rows(file, self.row, rows)
        except OSError as error:
            raise UsageError(f"cannot write {file} ({error.strerror}): mend that") from error

    def write_pictures(self, folder: Path) -> None:
        try:
            file = records.write_pictures(folder, self.pictures or [])
        except OSError as error:
            raise UsageError(f"cannot write to {folder} ({error.strerror}): mend that") from error
        self.console.print(f"wrote {file}")


def run(measuring: Measuring, folder: Path) -> int:
    """Measure all cases and record them in `<folder>/measurements.csv`, and their pictures."""
    measuring.write(folder / MEASUREMENTS, measuring.rows())
    if measuring.pictures is not None:
        measuring.write_pictures(folder)
    measuring.console.print(f"wrote {folder / MEASUREMENTS}")
    return DONE


def check(measuring: Measuring, reference: Path) -> int:
    """Measure the cases, print what is not as it must be, and say so by the exit code.

    Raises UsageError when the reference is missing, damaged, of another version, or has nothing
    for this device or for a case that needs it.
    """
    if not reference.exists():
        raise UsageError(f"there is no reference {reference}: make one with --update-reference")
    known = records.read_rows(reference, measuring.row)
    device = measuring.device.type
    if not any(row.device == device for row in known):
        raise UsageError(
            f"{reference} has no reference for {device}: check with --device "
            f"{known[0].device if known else 'cpu'}, or make one there with --update-reference"
        )
    findings = compare(measuring.rows(), known)
    lacking = {f.row.gradient for f in findings if f.reference is None and needs_reference(f.row)}
    if lacking:
        raise UsageError(
            f"{reference} has no reference for all cases of {', '.join(sorted(lacking))}: check "
            "others, or make one with --update-reference"
        )
    problems = [finding for finding in findings if finding.problem]
    if problems:
        measuring.console.print(_table(problems))
    measuring.console.print(
        f"{len(findings)} measurements of {len(measuring.cases)} cases checked: "
        + (f"{len(problems)} are not what they must be" if problems else "all as they must be")
    )
    return CHECK_FAILED if problems else DONE


def update_reference(measuring: Measuring, reference: Path) -> int:
    """Measure the cases and write the reference, saying what changed.

    What the reference has for other devices is kept.
    """
    known = records.read_rows(reference, measuring.row) if reference.exists() else []
    device = measuring.device.type
    rows = measuring.rows()
    changed = [finding for finding in compare(rows, known) if finding.problem]
    if known and changed:
        measuring.console.print(_table(changed))
    measuring.write(reference, [*(row for row in known if row.device != device), *rows])
    measuring.console.print(
        f"wrote {reference}: {len(rows)} rows for {device}, {len(changed)} changed"
    )
    return DONE


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(*describe(findings[0].row), "what is wrong")
    for finding in findings:
        table.add_row(*describe(finding.row).values(), finding.problem)
    return table
