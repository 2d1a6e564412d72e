"""The table of faults: what was injected, how often, and what came out of it, as it was counted.

A test says by `@pytest.mark.fault("writes")` to which of the ROWS it belongs, and calls the fixture
`injected(times, outcome)` when it has seen that so many injected faults came out so. With
`--faults-report FILE` the table is written at the end. A row says which of its tests failed, were
skipped, or did not run.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import torch

from bench.environment import describe
from bench.records.files import write_whole

ROWS: Mapping[str, str] = {
    "kill": "`kill -9` at a random moment of a run, then the same command",
    "writes": "a write of a run that fails, each in turn: full disk, read-only folder, folder gone",
    "results": "a file in a folder of results truncated, changed, emptied or deleted",
    "shared": "two and four processes on one folder",
    "ray": "a Ray worker killed",
    "malformed": "malformed command lines and values of options",
    "hostile": "hostile input: pickles, checkpoints with code, folders of images, decoded images",
}


@dataclass
class Row:
    """How often each outcome was seen, and how the tests ended."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tests: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class FaultsReport:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self.rows = {name: Row() for name in ROWS}

    def count(self, row: str, times: int, outcome: str) -> None:
        self.rows[row].outcomes[outcome] += times

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        marker = item.get_closest_marker("fault")
        if marker:
            row = self.rows[marker.args[0]]
            row.seconds += report.duration
            if report.when == "call" or report.outcome != "passed":
                row.tests[report.outcome] += 1
        return report

    def pytest_sessionfinish(self, session):
        place = session.config.getoption("--faults-report")
        if place:
            arguments = session.config.invocation_params.args
            write_whole(place, "\n".join([*table(self.rows), "", *_where(arguments), ""]))


def table(rows: Mapping[str, Row]) -> list[str]:
    """The lines of the table."""
    return [
        "# Injected faults",
        "",
        "| fault | injected | what came out | tests | minutes |",
        "|---|---|---|---|---|",
        *(f"| {ROWS[name]} | {_cells(row)} |" for name, row in rows.items()),
    ]


def _cells(row: Row) -> str:
    if not row.tests:
        return "– | did not run | 0 | –"
    out = [f"{times} × {outcome}" for outcome, times in row.outcomes.items()]
    wrong = [
        f"**{row.tests[outcome]} of the tests {outcome}**"
        for outcome in ("failed", "skipped")
        if row.tests[outcome]
    ]
    said = "; ".join([*wrong, *out]) or "nothing was counted"
    times = f"{row.outcomes.total()} times"
    return f"{times} | {said} | {row.tests.total()} | {row.seconds / 60:.1f}"


def _where(arguments: Sequence[str]) -> list[str]:
    found = describe(torch.device("cpu"))
    revision = f"{found['git_revision']}{' and changes' if found['git_dirty'] else ''}"
    return [
        f"Counted by `pytest {shlex.join(arguments)}` on {found['recorded_at']}, "
        f"{found['device_name']} of {found['cpu_count']}, Python {found['python']}, "
        f"PyTorch {found['packages']['torch']}, revision {revision}.",
    ]
