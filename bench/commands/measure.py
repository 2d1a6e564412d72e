"""A suite that trains nothing, from the command line: run it, check it, renew its reference."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import environment, records
from bench.errors import UsageError, free_memory, in_a_line, is_out_of_memory
from bench.records import MEASUREMENTS, Picture, checksums
from bench.records.checksums import DamagedRecordError
from bench.reporting import terminal
from bench.studies.regression import Finding, compare, describe, needs_reference, without_reference
from solvers import ContractError

DONE, CHECK_FAILED, SOME_FAILED = 0, 1, 3
SECONDS_BETWEEN_WRITES = 20


@dataclass(frozen=True)
class Measuring:
    """What is measured: `measure` makes rows, of type `row`, of each of the cases.

    key: the fields that a case and its rows have in common and that tell it from all others; none
    where cases are measured together or anew each time. data: `Dataset.described`. pictures is
    filled while they are measured; None where the suite makes none.
    """

    cases: Sequence[Any]
    measure: Callable[[Any], list[Any]]
    row: type[Any]
    key: tuple[str, ...]
    device: torch.device
    data: Mapping[str, object]
    console: Console
    pictures: list[Picture] | None = None

    def rows(
        self, cases: Sequence[Any], measured_more: Callable[[list[Any]], None] = lambda rows: None
    ) -> "Measured":
        """Measure these cases; `measured_more` is called with all rows so far now and then, and at
        the end, even when that is an interrupt."""
        measured = Measured()
        tenths = {math.ceil(len(cases) * i / 10) for i in range(1, 10)}
        written = time.monotonic()
        try:
            for count, case in enumerate(self._shown(cases), start=1):
                if count in tenths and not self.console.is_interactive and len(cases) > 200:
                    self.console.print(f"{count} of {len(cases)} cases …")
                self._measure(case, measured)
                if time.monotonic() - written > SECONDS_BETWEEN_WRITES:
                    measured_more(measured.rows)
                    written = time.monotonic()
        finally:
            if measured.rows:
                measured_more(measured.rows)
        return measured

    def _shown(self, cases: Sequence[Any]) -> Iterable[Any]:
        return track(
            cases,
            "measuring",
            console=self.console,
            transient=True,
            disable=not self.console.is_interactive,
        )

    def _measure(self, case: Any, measured: "Measured") -> None:
        try:
            found = self.measure(case)
            measured.rows += found
            for row in found:
                if getattr(row, "reason", ""):  # a peer that cannot do the work
                    self.console.print(f"{case.name}, {row.gradient}: {row.reason}", markup=False)
        except ContractError as error:
            raise UsageError(str(error)) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # one bad case never stops the others
            measured.failures += 1
            if is_out_of_memory(error):
                free_memory(self.device)
            name = getattr(case, "name", case)
            self.console.print(f"{name}: {in_a_line(error)}", markup=False)


@dataclass
class Measured:
    """The rows of the cases that could be measured, and how many could not."""

    rows: list[Any] = field(default_factory=list)
    failures: int = 0


def run(measuring: Measuring, folder: Path) -> int:
    """Measure the cases that are not recorded yet, and record them in
    `<folder>/measurements.csv` with what is there already, and their pictures in place of those
    that are there."""
    file = folder / MEASUREMENTS
    device = measuring.device.type
    known, where = _recorded(measuring, file)
    recorded = {records.key_of(row, measuring.key) for row in known if row.device == device}
    left = [c for c in measuring.cases if records.key_of(c, measuring.key) not in recorded]
    if len(left) < len(measuring.cases):
        recorded_already = len(measuring.cases) - len(left)
        measuring.console.print(
            f"{recorded_already} of {len(measuring.cases)} cases are recorded already"
        )

    def record(rows: list[Any]) -> None:
        records.write_rows(file, measuring.row, [*known, *rows], where)

    with _writing(file):
        # What is measured anew as a whole does not replace the last whole before it is one.
        measured = measuring.rows(left, record if measuring.key else lambda rows: None)
        if measured.rows and not measuring.key:
            record(measured.rows)
        if measuring.pictures is not None:
            pictures = records.write_pictures(folder, measuring.pictures, where)
            measuring.console.print(f"wrote {pictures}")
    if measured.rows:
        measuring.console.print(f"wrote {file}")
    return _failed(measured, measuring)


def _recorded(measuring: Measuring, file: Path) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """The rows to be kept, and in which environments all will have been measured. A damaged table
    is set aside."""
    here = {**environment.describe(measuring.device), "data": measuring.data}
    if not measuring.key or not file.exists():
        return [], [here]
    try:
        return records.read_rows(file, measuring.row), [*checksums.environments(file), here]
    except DamagedRecordError as error:
        measuring.console.print(error.set_aside(), markup=False)
        return [], [here]


def check(measuring: Measuring, reference: Path) -> int:
    """Measure the cases, print what is not as it must be, and say so by the exit code.

    Raises UsageError when the reference is missing, damaged, of another version, or has nothing
    for this device or for a case that needs it.
    """
    known = records.read_reference(reference, measuring.row)
    device = measuring.device.type
    if not any(row.device == device for row in known):
        others = f"check with --device {known[0].device}, or " if known else ""
        raise UsageError(
            f"{reference} has no reference for {device}: {others}make one there with "
            "--update-reference"
        )
    _refuse(reference, without_reference(measuring.row, measuring.cases, known))
    measured = measuring.rows(measuring.cases)
    findings = compare(measured.rows, known)
    _refuse(
        reference,
        {f.row.gradient for f in findings if f.reference is None and needs_reference(f.row)},
    )
    problems = [finding for finding in findings if finding.problem]
    if problems:
        measuring.console.print(_table(problems))
    if findings:
        measuring.console.print(
            f"{len(findings)} measurements of {len(measuring.cases) - measured.failures} cases "
            "checked: "
            + (f"{len(problems)} are not what they must be" if problems else "all as they must be")
        )
    failed = _failed(measured, measuring)
    return CHECK_FAILED if problems else failed


def _refuse(reference: Path, lacking: set[str]) -> None:
    if lacking:
        raise UsageError(
            f"{reference} has no reference for all cases of {', '.join(sorted(lacking))}: check "
            "others, or make one of your own with --update-reference --reference FILE"
        )


def update_reference(measuring: Measuring, reference: Path) -> int:
    """Measure the cases and write the reference, saying what changed.

    What the reference has for other devices is kept.
    """
    known = records.read_reference(reference, measuring.row) if reference.exists() else []
    device = measuring.device.type
    measured = measuring.rows(measuring.cases)
    if measured.failures:
        measuring.console.print(f"{reference} is left as it was")
        return _failed(measured, measuring)
    rows = measured.rows
    changed = [finding for finding in compare(rows, known) if finding.problem]
    if known and changed:
        measuring.console.print(_table(changed))
    others = [row for row in known if row.device != device]
    with _writing(reference):
        records.write_reference(reference, measuring.row, [*others, *rows])
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


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {file} ({error.strerror}): mend that") from error


def _table(findings: Sequence[Finding]) -> Table:
    table = terminal.table(*describe(findings[0].row), "what is wrong")
    for finding in findings:
        table.add_row(*describe(finding.row).values(), finding.problem)
    return table
