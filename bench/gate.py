"""A suite that trains nothing, from the command line: run it, check it, renew its reference."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import records
from bench.errors import UsageError
from bench.faults import free_memory, is_out_of_memory
from bench.records import MEASUREMENTS, Picture
from bench.regression import Finding, compare, describe, needs_reference

DONE, CHECK_FAILED, SOME_FAILED = 0, 1, 3


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

    def rows(self) -> "Measured":
        steps = track(
            self.cases,
            "measuring",
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        measured = Measured()
        tenths = {math.ceil(len(self.cases) * i / 10) for i in range(1, 10)}
        for count, case in enumerate(steps, start=1):
            if count in tenths and not self.console.is_terminal and len(self.cases) > 200:
                self.console.print(f"{count} of {len(self.cases)} cases …")
            try:
                measured.rows += self.measure(case)
            except Exception as error:  # one bad case never stops the others
                measured.failures += 1
                if is_out_of_memory(error):
                    free_memory(self.device)
                first = str(error).strip().partition("\n")[0]
                self.console.print(f"{case}: {type(error).__name__}: {first}", markup=False)
        return measured

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


@dataclass
class Measured:
    """The rows of the cases that could be measured, and how many could not."""

    rows: list[Any] = field(default_factory=list)
    failures: int = 0


def run(measuring: Measuring, folder: Path) -> int:
    """Measure all cases and record them in `<folder>/measurements.csv`, if there is anything, and
    their pictures."""
    measured = measuring.rows()
    if not measured.rows:
        return _failed(measured, measuring)
    if measuring.pictures is not None:
        measuring.write_pictures(folder)
    measuring.write(folder / MEASUREMENTS, measured.rows)
    measuring.console.print(f"wrote {folder / MEASUREMENTS}")
    return _failed(measured, measuring) or DONE


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
    measured = measuring.rows()
    findings = compare(measured.rows, known)
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
    return CHECK_FAILED if problems else _failed(measured, measuring) or DONE


def update_reference(measuring: Measuring, reference: Path) -> int:
    """Measure the cases and write the reference, saying what changed.

    What the reference has for other devices is kept.
    """
    known = records.read_rows(reference, measuring.row) if reference.exists() else []
    device = measuring.device.type
    measured = measuring.rows()
    if measured.failures:
        measuring.console.print(f"{reference} is left as it was")
        return _failed(measured, measuring)
    rows = measured.rows
    changed = [finding for finding in compare(rows, known) if finding.problem]
    if known and changed:
        measuring.console.print(_table(changed))
    measuring.write(reference, [*(row for row in known if row.device != device), *rows])
    measuring.console.print(
        f"wrote {reference}: {len(rows)} rows for {device}, {len(changed)} changed"
    )
    return DONE


def _failed(measured: Measured, measuring: Measuring) -> int:
    """The exit code of what could not be measured; 0 when all could."""
    if not measured.failures:
        return DONE
    measuring.console.print(
        f"{measured.failures} of {len(measuring.cases)} cases failed: the lines above say why"
    )
    return SOME_FAILED


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(*describe(findings[0].row), "what is wrong")
    for finding in findings:
        table.add_row(*describe(finding.row).values(), finding.problem)
    return table
