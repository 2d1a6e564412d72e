"""When a run is checkpointed, and from what it goes on."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bench.context import Workload
from bench.environment import part
from bench.errors import check_there, is_out_of_memory, unwritable
from bench.execution.interrupts import Interrupts
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.reporting.progress import count
from bench.training import checkpoint
from bench.training.checkpoint import Checkpoint, DamagedError, ForeignError, Owner
from bench.training.course import Course
from bench.training.trainer import Trainer

SECONDS_BETWEEN_CHECKPOINTS = 5 * 60.0
"""Inside of an epoch. There is one after each epoch besides."""


class Listener(Protocol):
    """Is told what happens to an experiment that runs."""

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None: ...

    def run_resumed(self, experiment: Experiment, course: Course) -> None:
        """It goes on from a checkpoint, with this course behind it."""

    def note(self, line: str) -> None: ...


class Keeper:
    """Keeps the checkpoint of one experiment, in whose folder no other process is.

    carry is called with each file that was written, for whoever keeps it elsewhere too.
    """

    def __init__(
        self,
        workload: Workload,
        experiment: Experiment,
        listener: Listener,
        interrupts: Interrupts,
        carry: Callable[[Path], None] = lambda file: None,
    ) -> None:
        self._folder = workload.folder
        self._file = workload.folder / experiment.name / checkpoint.NAME
        self._owner = Owner.of(experiment, workload.dataset.fingerprint, workload.device)
        self._device = workload.device
        self._experiment = experiment
        self._listener = listener
        self._interrupts = interrupts
        self._carry = carry
        self._written = time.monotonic()

    def go_on(self, trainer: Trainer, course: Course) -> bool:
        """Whether there was something to go on from; then the trainer and the course are there.

        A checkpoint that cannot be used is set aside. Where this raises nothing and is false the
        trainer may be half-way: make another.
        """
        try:
            found = checkpoint.read(self._file, self._owner)
            if found is None:
                return False
            _restore(trainer, found)
        except (DamagedError, ForeignError) as error:
            self._set_aside(error)
            return False
        so_far = trainer.so_far
        now, before = part(self._device), found.parts[-1]
        course.go_on(found, so_far.epoch, now)
        steps = f" after {count(so_far.steps, 'step')}" if so_far.steps else ""
        model = "device_name" if self._device.type == "cuda" else "cpu"
        rounding = "".join(
            f", {said} (before: {before[name]})"
            for name, said in (
                ("threads", f"with {now['threads']} threads"),
                (model, f"on {now[model]}"),
                ("memory_format", f"in the memory format {now['memory_format']}"),
            )
            if now[name] != before[name]
        )
        self._listener.run_resumed(self._experiment, course)
        name = self._experiment.name
        self._listener.note(f"{name}: goes on in epoch {so_far.epoch}{steps}{rounding}")
        return True

    def between_steps(self, trainer: Trainer, course: Course) -> None:
        """Writes a checkpoint when it is time for one, or when somebody wants to stop, and then
        raises KeyboardInterrupt."""
        is_time = time.monotonic() - self._written >= SECONDS_BETWEEN_CHECKPOINTS
        if is_time or self._interrupts.arrived:
            self.write(trainer, course)

    def write(self, trainer: Trainer, course: Course) -> None:
        """Write a checkpoint; raises KeyboardInterrupt when somebody wants to stop, and UsageError
        when it cannot be written, which leaves the last one."""
        check_there(self._folder)
        try:
            now = part(self._device)
            checkpoint.write(self._file, course.checkpoint(self._owner, trainer.state(), now))
        except OSError as error:
            raise unwritable(str(self._file), error) from error
        self._carry(self._file)
        self._written = time.monotonic()
        if self._interrupts.arrived:
            raise KeyboardInterrupt

    def remove(self) -> None:
        """The run is recorded. Raises UsageError when the checkpoint cannot be removed."""
        checkpoint.remove(self._file)

    def _set_aside(self, error: DamagedError | ForeignError) -> None:
        kind = "damaged" if isinstance(error, DamagedError) else "of another run"
        aside = self._file.with_name(f"{checkpoint.NAME}.{kind.split()[-1]}")
        try:
            os.replace(self._file, aside)
        except OSError as failure:
            raise unwritable(str(aside), failure) from failure
        self._carry(aside)
        self._listener.note(
            f"{self._experiment.name}: the checkpoint is {kind} ({error}): it is now {aside.name}, "
            "and the run starts over"
        )


def _restore(trainer: Trainer, found: Checkpoint) -> None:
    try:
        trainer.restore(found.trainer)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise DamagedError("it does not hold what a training is") from error
