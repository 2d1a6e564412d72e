"""Experiments that run in other processes: what these tell, and how the runs end."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.context import Workload
from bench.errors import UsageError
from bench.execution.run import record_death
from bench.execution.work_queue import Left, recorded_by_another
from bench.execution.worker import Busy, Message, Note, Started
from bench.experiment import Experiment
from bench.records import EpochRow, Run, locks
from bench.reporting.progress import Reporter
from bench.training.course import Course


class Elsewhere:
    """What is known in this process of experiments that run in others.

    left: those that wait. running: what is known of each that runs.
    """

    def __init__(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> None:
        self.left = Left(workload, experiments, reporter)
        self.running: dict[Experiment, Course] = {}
        self._workload = workload
        self._experiments = experiments
        self._reporter = reporter
        self._environments: dict[Experiment, Mapping[str, Any] | None] = {}
        self._ended: dict[Experiment, Run] = {}

    @property
    def runs(self) -> list[Run]:
        """All, in the order of the experiments, once they have ended."""
        return [self._ended[experiment] for experiment in self._experiments]

    def heard(self, experiment: Experiment, message: Message) -> None:
        """What the experiment's process told. After the run has ended nothing is heard of it.

        Raises UsageError when that is the message, or when a record cannot be written.
        """
        if isinstance(message, UsageError):
            raise message
        if isinstance(message, Started):
            self._started(experiment, message)
        elif experiment not in self.running:
            return
        elif isinstance(message, EpochRow):
            self.running[experiment].rows.append(message)
            self._reporter.epoch_finished(experiment, message)
        elif isinstance(message, Course):
            self.running[experiment] = message
            self._reporter.run_resumed(experiment, message)
        elif isinstance(message, Note):
            self._reporter.note(message.line)
        else:
            self._end(experiment, self._failed(experiment, message))

    def _started(self, experiment: Experiment, message: Started) -> None:
        if experiment in self.running:
            self._reporter.note(f"{experiment.name}: its process died, and another took it over")
            self._reporter.run_resumed(experiment, Course())
        else:
            self._reporter.run_started(experiment)
        self.running[experiment] = Course()
        self._environments[experiment] = message.environment

    def _failed(self, experiment: Experiment, message: Run | Busy | str) -> Run | Busy:
        """Of a run that has only a reason for its end, a record that it failed, unless another
        process has taken it over already."""
        if not isinstance(message, str):
            return message
        with locks.claim(self._workload.folder, experiment.name) as is_ours:
            if not is_ours:
                return Busy()
            before = self.left.before[experiment]
            return recorded_by_another(self._workload, experiment, before) or record_death(
                self._workload,
                experiment,
                message,
                self.running[experiment],
                self._environments[experiment],
            )

    def _end(self, experiment: Experiment, ending: Run | Busy) -> None:
        del self.running[experiment]
        if isinstance(ending, Run):
            self._ended[experiment] = ending
            self._reporter.run_finished(ending)
        else:
            self._reporter.run_postponed(experiment)
            self.left.put_back(experiment)
