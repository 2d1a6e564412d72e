"""The regression check of a study (--check), and its reference (--update-reference)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cli, records
from bench.commands.measure import Session
from bench.errors import CHECK_FAILED, DONE, UsageError, writing
from bench.records.files import make_writable
from bench.reporting import terminal
from bench.studies.regression import (
    Comparison,
    Finding,
    compare,
    identity_of,
    without_reference,
)


def run(request: cli.StudyRequest, console: Console) -> int:
    """Measure the fixed set of cases and print what differs from the reference.

    Raises UsageError if the reference is missing, damaged, of another version, or has nothing for
    this device or for a case that needs it.
    """
    session = Session.begin(request, console)
    reference, comparison = request.reference, _comparison(request)
    known = records.read_reference(reference, request.suite.row)
    device = session.device.type
    if not any(row.device == device for row in known):
        others = f"check with --device {known[0].device}, or " if known else ""
        raise UsageError(
            f"{reference} has no reference for {device}: {others}make one there with "
            "--update-reference"
        )
    _refuse(reference, without_reference(comparison, request.cases, known))
    measured = session.measure(request.cases)
    findings = compare(comparison, measured.rows, known)
    missing = [f for f in findings if f.reference is None and not comparison.is_absolute(f.row)]
    _refuse(reference, {finding.row.gradient for finding in missing})
    problems = _print_problems(comparison, findings, console)
    if findings:
        n_cases = len(request.cases) - measured.failures
        verdict = f"{problems} are not what they must be" if problems else "all as they must be"
        console.print(f"{len(findings)} measurements of {n_cases} cases checked: {verdict}")
    failed = session.failure_code(measured, request.cases)
    return CHECK_FAILED if problems else failed


def update_reference(request: cli.StudyRequest, console: Console) -> int:
    """Measure the fixed set of cases, and write into the reference what is new or has changed.

    A row that passes the check is kept, so that a reference does not drift from machine to machine;
    rows that were not measured are kept, too. Nothing is written where a case fails.
    """
    reference, comparison, row = request.reference, _comparison(request), request.suite.row
    session = Session.begin(request, console)
    make_writable(reference.parent)
    known = records.read_reference(reference, row) if reference.exists() else []
    measured = session.measure(request.cases)
    if measured.failures:
        console.print(f"{reference} is left as it was")
        return session.failure_code(measured, request.cases)
    findings = compare(comparison, measured.rows, known)
    changed = _print_problems(comparison, [f for f in findings if f.reference], console)
    moved = {identity_of(f.row): f.row for f in findings if f.problem or not f.reference}
    rows = [moved.pop(identity_of(old), old) for old in known]
    with writing(reference):
        records.write_reference(reference, row, [*rows, *moved.values()])
    checked = f"{len(findings)} rows for {session.device.type}"
    console.print(f"wrote {reference}: {checked}, {len(moved)} of them new, {changed} changed")
    return DONE


def _comparison(request: cli.StudyRequest) -> Comparison[Any]:
    assert request.suite.comparison is not None, "cli refuses a study without one"
    return request.suite.comparison


def _refuse(reference: Path, lacking: set[str]) -> None:
    if lacking:
        raise UsageError(
            f"{reference} has no reference for all cases of {', '.join(sorted(lacking))}: check "
            "others, or add them with --update-reference --gradient NAME (and --reference FILE, if "
            "the reference is your own)"
        )


def _print_problems(
    comparison: Comparison[Any], findings: Sequence[Finding[Any]], console: Console
) -> int:
    """Print a table of the findings with a problem; return their number."""
    problems = [finding for finding in findings if finding.problem]
    if problems:
        columns = (*comparison.describe(problems[0].row), "what is wrong")
        rows = [(*comparison.describe(f.row).values(), f.problem) for f in problems]
        console.print(terminal.table(columns, rows))
    return len(problems)
