"""The table of faults: what was injected, how often, and what came out.

A test names its row by `@pytest.mark.fault("writes")` and calls the fixture
`injected(times, outcome)` for each outcome that it has seen. `--faults-report FILE` writes the
table at the end, with how many tests of each row failed, were skipped or did not run.
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
    "writes": "a write of a command that fails, each in turn: full disk, read-only disk",
    "results": "a file in a folder of results truncated, changed, emptied or deleted",
    "shared": "two and four processes on one folder",
    "ray": "a Ray worker killed",
    "malformed": "malformed command lines and values of options",
    "hostile": "hostile input: pickles, checkpoints with code, folders of images",
}


@dataclass
class Row:
    """Counts of the outcomes, and results of the tests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tests: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def cells(self) -> str:
        if not self.tests:
            return "– | did not run | 0 | –"
        said = [
            f"**{self.tests[outcome]} of the tests {outcome}**"
            for outcome in ("failed", "skipped")
            if self.tests[outcome]
        ]
        said += [f"{times} × {outcome}" for outcome, times in self.outcomes.items()]
        what = "; ".join(said) or "nothing was counted"
        minutes = f"{self.seconds / 60:.1f}"
        return f"{self.outcomes.total()} times | {what} | {self.tests.total()} | {minutes}"


class FaultsReport:
    """A pytest plugin that counts."""

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
            write_whole(place, "\n".join([*table(self.rows), "", _environment(arguments), ""]))


def table(rows: Mapping[str, Row]) -> list[str]:
    """The lines of the table."""
    return [
        *("# Injected faults", ""),
        "| fault | injected | what came out | tests | minutes |",
        "|---|---|---|---|---|",
        *(f"| {ROWS[name]} | {row.cells()} |" for name, row in rows.items()),
    ]


def _environment(arguments: Sequence[str]) -> str:
    found = describe(torch.device("cpu"))
    revision = f"{found['git_revision']}{' and changes' if found['git_dirty'] else ''}"
    return (
        f"Counted by `pytest {shlex.join(arguments)}` on {found['recorded_at']}, "
        f"{found['device_name']} of {found['cpu_count']}, Python {found['python']}, "
        f"PyTorch {found['packages']['torch']}, revision {revision}."
    )
