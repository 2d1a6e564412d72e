"""Commands of the command line, one per file."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from bench.cli import CompareRequest, ReportRequest, Request, StudyRequest
from bench.commands import check, draw, dry_run, measure, reproduce, status, train
from bench.commands import list as list_

Command = Callable[[Any, Console], int]

TRAINING: Mapping[str, Command] = {
    "run": train.run,
    "list": list_.run,
    "dry-run": dry_run.print_runs,
    "status": status.show_runs,
    "reproduce": reproduce.run,
    "plots-only": draw.draw_runs,
    "report": draw.draw_runs,
}
"""Action → the command for a suite that trains. Each takes the request and returns an exit code."""

STUDY: Mapping[str, Command] = {
    "run": measure.run,
    "dry-run": dry_run.print_cases,
    "status": status.show_cases,
    "check": check.run,
    "update-reference": check.update_reference,
    "plots-only": draw.draw_cases,
    "report": draw.draw_cases,
}
"""Action → the command for a study."""


def execute(request: Request | CompareRequest | ReportRequest, console: Console) -> int:
    """Do what was asked and return the exit code. Raises UsageError for what the user can fix."""
    if isinstance(request, CompareRequest):
        from bench.commands import compare  # pandas with it, which takes half a second

        return compare.run(request, console)
    if isinstance(request, ReportRequest):
        return draw.draw_folder(request, console)
    commands = STUDY if isinstance(request, StudyRequest) else TRAINING
    return commands[request.action](request, console)
