"""Measure what is not recorded yet of a study, then draw its figures."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from bench import cli, data, environment, records, sources
from bench.commands.draw import draw_cases
from bench.commands.places import describe_archived
from bench.errors import (
    DONE,
    SOME_FAILED,
    UsageError,
    free_memory,
    in_a_line,
    is_out_of_memory,
    writing,
)
from bench.execution import archive
from bench.records import MEASUREMENTS, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.records.files import make_writable, remove_parts
from bench.studies.study import Runner, Study
from solvers import ContractError

SECONDS_BETWEEN_WRITES = 20


def run(request: cli.StudyRequest, console: Console) -> int:
    """Measure the missing cases, record them, and draw the figures."""
    session = Session.begin(request, console)
    folder = request.out / request.suite.name
    with locks.no_trace_of_errors(folder):
        return _measure_and_draw(session, request, folder)


def _measure_and_draw(session: "Session", request: cli.StudyRequest, folder: Path) -> int:
    console = session.console
    make_writable(folder)
    console.print(f"data: {session.data['source']}, fingerprint {session.data['fingerprint']}")
    if request.fresh:
        console.print(describe_archived(*archive.archive_measurements(folder)))
    with locks.wait_for(folder, locks.MEASUREMENTS, lambda: console.print(locks.WAITING)):
        remove_parts(folder)
        code = _record(session, request.cases, folder)
    if code and not (folder / MEASUREMENTS).exists():
        return code
    with locks.wait_for(folder, locks.FIGURES):
        return draw_cases(request, console) or code


@dataclass(frozen=True)
class Session:
    """A study that is measured on a device. data: `Dataset.described`."""

    study: Study
    runner: Runner
    device: torch.device
    data: Mapping[str, object]
    console: Console

    @classmethod
    def begin(cls, request: cli.StudyRequest, console: Console) -> "Session":
        """Prepare device and data. Raises UsageError when the study cannot use them."""
        device = environment.find_device(request.device)
        environment.prepare(device)
        dataset = data.load(request.data_dir, 10, generate=request.data_dir is None)
        runner = request.suite.runner(dataset, device)
        return cls(request.suite, runner, device, dataset.described, console)

    def measure(
        self, cases: Sequence[Any], on_rows: Callable[[list[Any]], None] = lambda rows: None
    ) -> "Measured":
        """Measure these cases. `on_rows` is called with all rows so far now and then and at the
        end, even if that is an interrupt."""
        measured = Measured()
        is_log = not self.console.is_interactive
        tenths = {math.ceil(len(cases) * i / 10) for i in range(1, 10)}
        shown = track(cases, "measuring", console=self.console, transient=True, disable=is_log)
        written = time.monotonic()
        try:
            for number, case in enumerate(shown, start=1):
                if is_log and number in tenths and len(cases) > 200:
                    self.console.print(f"{number} of {len(cases)} cases …")
                self._measure(case, measured)
                if time.monotonic() - written > SECONDS_BETWEEN_WRITES:
                    on_rows(measured.rows)
                    written = time.monotonic()
        finally:
            if measured.rows:
                on_rows(measured.rows)
        return measured

    def failure_code(self, measured: "Measured", cases: Sequence[Any]) -> int:
        """Print how many cases failed; return the exit code."""
        if not measured.failures:
            return DONE
        self.console.print(
            f"{measured.failures} of {len(cases)} cases failed: the lines above say why"
        )
        return SOME_FAILED

    def _measure(self, case: Any, measured: "Measured") -> None:
        try:
            found = self.runner.measure(case)
        except ContractError as error:
            raise UsageError(str(error)) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # one bad case never stops the others
            measured.failures += 1
            if is_out_of_memory(error):
                free_memory(self.device)
            self.console.print(f"{case.name}: {in_a_line(error)}", markup=False)
            return
        measured.rows += found
        for remark in filter(None, (self.study.remark(case, row) for row in found)):
            self.console.print(remark, markup=False)


@dataclass
class Measured:
    """The rows of the cases that could be measured, and the number of those that could not."""

    rows: list[Any] = field(default_factory=list)
    failures: int = 0


def _record(session: Session, cases: Sequence[Any], folder: Path) -> int:
    """Measure the missing cases; add their rows to measurements.csv and replace the pictures."""
    study, console, file = session.study, session.console, folder / MEASUREMENTS
    known, where = _recorded(session, cases, file)
    of_device = [row for row in known if row.device == session.device.type]
    recorded = {records.key_of(row, study.key) for row in of_device}
    left = [case for case in cases if records.key_of(case, study.key) not in recorded]
    if len(left) < len(cases):
        console.print(f"{len(cases) - len(left)} of {len(cases)} cases are recorded already")

    def write(rows: list[Any]) -> None:
        records.write_rows(file, study.row, [*known, *rows], where)

    with writing(file):
        # Without a key all rows are replaced, and not before all cases are measured.
        measured = session.measure(left, write if study.key else lambda rows: None)
        if measured.rows and not study.key:
            write(measured.rows)
        if session.runner.pictures is not None:
            pictures = records.write_pictures(folder, session.runner.pictures, where)
            console.print(f"wrote {pictures}")
    if measured.rows:
        console.print(f"wrote {file}")
    return session.failure_code(measured, cases)


def _recorded(
    session: Session, cases: Sequence[Any], file: Path
) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """The rows to keep, and the environments of all rows, old and new.

    Renames a damaged table, and archives rows of an earlier version of the user's own code.
    """
    here = {
        **environment.describe(session.device),
        **sources.described(*cases),
        "data": session.data,
    }
    say = partial(session.console.print, markup=False)
    if not session.study.key or not file.exists():
        return [], [here]
    try:
        rows = archive.archive_changed_rows(file, session.study.row, cases, say)
        return rows, [*checksums.environments(file), here]
    except DamagedRecordError as error:
        say(error.rename_files())
        return [], [here]
