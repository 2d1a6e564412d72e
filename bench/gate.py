"""The suite `gradients` from the command line: run it, check it, renew its reference."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import data, records
from bench.errors import UsageError
from bench.laboratory import GradientCase, Laboratory
from bench.records import MEASUREMENTS, GradientRow
from bench.regression import Finding, compare, needs_reference

DONE, CHECK_FAILED = 0, 1


def run(
    cases: Sequence[GradientCase], images: int, device: torch.device, folder: Path, console: Console
) -> int:
    """Measure the whole suite and record it in `<folder>/measurements.csv`."""
    rows = _measure(cases, images, device, console)
    _write(folder / MEASUREMENTS, rows)
    console.print(f"wrote {folder / MEASUREMENTS}")
    return DONE


def check(
    cases: Sequence[GradientCase],
    images: int,
    device: torch.device,
    reference: Path,
    console: Console,
) -> int:
    """Measure the cases, print what is not as it must be, and say so by the exit code.

    Raises UsageError when the reference is missing, damaged, of another version, or has nothing
    for this device or for a case that needs it.
    """
    if not reference.exists():
        raise UsageError(f"there is no reference {reference}: make one with --update-reference")
    known = records.read_rows(reference, GradientRow)
    if not any(row.device == device.type for row in known):
        raise UsageError(
            f"{reference} has no reference for {device.type}: check with --device "
            f"{known[0].device if known else 'cpu'}, or make one there with --update-reference"
        )
    findings = compare(_measure(cases, images, device, console), known)
    lacking = {f.row.gradient for f in findings if f.reference is None and needs_reference(f.row)}
    if lacking:
        raise UsageError(
            f"{reference} has no reference for all cases of {', '.join(sorted(lacking))}: check "
            "others, or make one with --update-reference"
        )
    problems = [finding for finding in findings if finding.problem]
    if problems:
        console.print(_table(problems))
    console.print(
        f"{len(findings)} gradient errors of {len(cases)} cases checked: "
        + (f"{len(problems)} are not what they must be" if problems else "all as they must be")
    )
    return CHECK_FAILED if problems else DONE


def update_reference(
    cases: Sequence[GradientCase],
    images: int,
    device: torch.device,
    reference: Path,
    console: Console,
) -> int:
    """Measure the cases and write the reference, saying what changed.

    What the reference has for other devices is kept.
    """
    known = records.read_rows(reference, GradientRow) if reference.exists() else []
    rows = _measure(cases, images, device, console)
    changed = [finding for finding in compare(rows, known) if finding.problem]
    if known and changed:
        console.print(_table(changed))
    others = [row for row in known if row.device != device.type]
    _write(reference, [*others, *rows])
    console.print(f"wrote {reference}: {len(rows)} rows for {device.type}, {len(changed)} changed")
    return DONE


def _measure(
    cases: Sequence[GradientCase], images: int, device: torch.device, console: Console
) -> list[GradientRow]:
    laboratory = Laboratory(data.load(None, 10, generate=True), device, images)
    steps = track(
        cases,
        "measuring gradients",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    return [row for case in steps for row in laboratory.measure(case)]


def _write(file: Path, rows: Sequence[GradientRow]) -> None:
    try:
        records.write_rows(file, GradientRow, rows)
    except OSError as error:
        raise UsageError(f"cannot write {file} ({error.strerror}): mend that") from error


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("network", "scheme", "gradient", "part", "error", "reference", "what is wrong")
    for finding in findings:
        row = finding.row
        table.add_row(
            row.network,
            f"{row.method}, Nt {row.n_steps}, {row.precision}",
            row.gradient,
            row.part,
            f"{row.error:.6g}",
            "" if finding.reference is None else f"{finding.reference:.6g}",
            finding.problem,
        )
    return table
