"""Follow runs in other processes, as the results folder shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.context import Workload
from bench.execution import position
from bench.execution.run import record_death
from bench.execution.work_queue import RecordStamp, WorkQueue, recorded_since
from bench.experiment import Experiment
from bench.records import Run, locks
from bench.reporting.progress import Reporter
from bench.training import checkpoint
from bench.training.checkpoint import DamagedError, ForeignError, RunState

Process = tuple[str, int]
"""Start time of a run and number of its resumes: unique for each process that ran it."""


@dataclass
class _Seen:
    """The reported state of a run. before: the process of the checkpoint that it starts from.
    process: the one whose checkpoint was seen last. changed: the time of that file."""

    before: Process | None
    process: Process | None = None
    changed: int = 0
    n_rows: int = 0
    is_started: bool = False


class Pool(Protocol):
    """Processes that each run one experiment with `run.record_experiment`."""

    def start(self, experiment: Experiment, stamp: RecordStamp) -> None: ...

    def ended(self, seconds: float) -> Iterator[tuple[Experiment, str | None]]:
        """Wait up to `seconds` for processes to end; yield each with its failure, or None.

        Raises UsageError if that was the failure.
        """


class RunWatcher:
    """Reports on experiments that run in other processes.

    A process writes a checkpoint when it starts or resumes a run, then at least after each epoch,
    and its position in between; the record is the end.
    """

    def __init__(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> None:
        self._queue = WorkQueue(workload, experiments, reporter.note)
        self._running: dict[Experiment, _Seen] = {}
        self._workload = workload
        self._experiments = experiments
        self._reporter = reporter
        self._ended: dict[Experiment, Run] = {}

    def run_all(self, pool: Pool, at_once: int) -> list[Run]:
        """Run the experiments in a pool, so many at once; return the runs in their order.

        Raises UsageError if a record cannot be written.
        """
        while self._queue or self._running:
            while len(self._running) < at_once and (one := self._queue.take()):
                state = self._state(one)
                self._running[one] = _Seen(_process(state) if state else None)
                pool.start(one, self._queue.stamps[one])
            for experiment, failure in pool.ended(locks.SECONDS_BETWEEN_LOOKS):
                self._end(experiment, failure)
            self._look()
        return [self._ended[experiment] for experiment in self._experiments]

    def _look(self) -> None:
        """Report what the checkpoints and positions show."""
        for experiment, seen in self._running.items():
            changed = self._changed(experiment)
            if changed != seen.changed:
                seen.changed = changed
                state = self._state(experiment)
                if state and _process(state) != seen.before:
                    self._start(experiment, seen)
                    self._show(experiment, seen, state)
            reached = position.read(self._workload.folder / experiment.name)
            if seen.is_started and reached and reached.epoch > seen.n_rows:
                self._reporter.stepped(experiment, reached)

    def _end(self, experiment: Experiment, failure: str | None) -> None:
        seen, run = self._running.pop(experiment), self._outcome(experiment, failure)
        if run is None:  # another process is running it
            if seen.is_started:
                self._reporter.run_postponed(experiment)
            self._queue.put_back(experiment)
            return
        self._start(experiment, seen)
        for row in run.epochs[seen.n_rows :]:
            self._reporter.epoch_finished(experiment, row)
        self._ended[experiment] = run
        self._reporter.run_finished(run)

    def _outcome(self, experiment: Experiment, failure: str | None) -> Run | None:
        with locks.claim(self._workload.folder, experiment.name) as is_ours:
            if not is_ours:
                return None
            run = recorded_since(self._workload, experiment, self._queue.stamps[experiment])
            if run is None and failure is not None:
                run = record_death(self._workload, experiment, failure, self._state(experiment))
            return run

    def _start(self, experiment: Experiment, seen: _Seen) -> None:
        if not seen.is_started:
            seen.is_started = True
            self._reporter.run_started(experiment)

    def _show(self, experiment: Experiment, seen: _Seen, state: RunState) -> None:
        if _process(state) != seen.process:
            if seen.process is not None:
                self._reporter.note(
                    f"{experiment.name}: its process died, and another took it over"
                )
            seen.process = _process(state)
            if state.resumed_at or seen.n_rows:
                self._reporter.run_resumed(experiment, state.rows)
                seen.n_rows = len(state.rows)
            for line in state.notes:
                self._reporter.note(line)
        for row in state.rows[seen.n_rows :]:
            self._reporter.epoch_finished(experiment, row)
        seen.n_rows = len(state.rows)

    def _state(self, experiment: Experiment) -> RunState | None:
        try:
            return checkpoint.read_any(self._workload.folder / experiment.name / checkpoint.NAME)
        except (DamagedError, ForeignError):  # the process that runs it renames it
            return None

    def _changed(self, experiment: Experiment) -> int:
        file = self._workload.folder / experiment.name / checkpoint.NAME
        try:
            return file.stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return 0


def _process(state: RunState) -> Process:
    return state.started_at, len(state.resumed_at)
