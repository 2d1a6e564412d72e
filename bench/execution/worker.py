"""What happens in a process that runs one experiment for another process."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bench.context import Workload
from bench.errors import UsageError
from bench.execution.run import record_experiment
from bench.execution.work_queue import Before
from bench.experiment import Experiment
from bench.records import EpochRow, Run
from bench.training.course import Course

SECONDS_TO_STOP = 10.0
"""So long a worker may take to stop when it is told to; then it is killed."""


@dataclass(frozen=True)
class Started:
    """The experiment's process runs, in this environment (`environment.describe`); None: in the
    one of the process that hears it."""

    environment: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Note:
    """A line for the person."""

    line: str


@dataclass(frozen=True)
class Busy:
    """Another process is running the experiment."""


Ending = Run | Busy | UsageError | str
Message = Started | EpochRow | Course | Note | Ending
"""What a worker sends: what happens, a Course when it goes on from a checkpoint; then its run,
which is recorded, or that it is busy; or an error that stops the suite; or the traceback of any
other."""


def work(
    messages: Connection, workload: Workload, experiment: Experiment, before: Before, threads: int
) -> None:
    """Run and record the experiment and send what there is to tell.

    SIGTERM and the end of the process that started this one are Ctrl-C to the experiment.
    """
    try:
        _stop_when_told()
        torch.set_num_threads(threads)
        told = Told(messages.send)
        told.tell(ending(workload, experiment, told, before))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # from here on nothing is left half-done
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)  # not a traceback, and the exit status says why


def ending(
    workload: Workload,
    experiment: Experiment,
    told: "Told",
    before: Before,
    carry: Callable[[Path], None] = lambda file: None,
) -> Ending:
    """Run and record the experiment, and return how it ended; an interrupt alone is raised."""
    try:
        return record_experiment(workload, experiment, told, before, carry) or Busy()
    except UsageError as error:
        return error
    except KeyboardInterrupt:
        raise
    except BaseException:
        return traceback.format_exc()


class Told:
    """Sends what it is told, with a function that raises BrokenPipeError where nobody listens."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def tell(self, message: Message) -> None:
        try:
            self._send(message)
        except BrokenPipeError:  # nobody listens any more
            raise KeyboardInterrupt from None

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None:
        self.tell(row)

    def run_resumed(self, experiment: Experiment, course: Course) -> None:
        self.tell(course)

    def note(self, line: str) -> None:
        self.tell(Note(line))


def _stop_when_told() -> None:
    """An experiment knows how to stop on SIGINT, so SIGTERM is turned into that. SIGINT itself is
    blocked since before this process began, because a terminal sends it to all processes at once
    and it is for the one that started this one to say who stops."""
    signal.signal(signal.SIGINT, _interrupt_once)
    signal.signal(signal.SIGTERM, _pass_on)
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _pass_on(number: int, frame: FrameType | None) -> None:
    # One that waits already comes now, and a second one would be in a hurry.
    waits = signal.SIGINT in signal.sigpending()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if not waits:
        signal.raise_signal(signal.SIGINT)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):  # must not disturb the clearing up
        signal.signal(again, signal.SIG_IGN)
    raise KeyboardInterrupt


def _stop_with_parent() -> None:
    """A parent that is killed cannot tell its workers to stop."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_STOP)
    os._exit(1)
