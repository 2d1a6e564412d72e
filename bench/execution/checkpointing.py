"""Write the checkpoints of a run, and resume it from one."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.context import Workload
from bench.environment import part
from bench.errors import check_there, writing
from bench.experiment import Experiment
from bench.records import EpochRow
from bench.reporting.remaining import Position
from bench.reporting.terminal import count
from bench.training import checkpoint
from bench.training.checkpoint import DamagedError, ForeignError, Owner, RunState
from bench.training.interrupts import Interrupts
from bench.training.trainer import Trainer

SECONDS_BETWEEN_CHECKPOINTS = 5 * 60.0
"""Within an epoch. A checkpoint is also written at the start, after a resume and after each
epoch."""


SECONDS_BETWEEN_POSITIONS = 1.0
"""The least interval between two reports of a run's position."""


class Listener(Protocol):
    """Receives the events of one run."""

    def epoch_finished(self, experiment: Experiment, row: EpochRow) -> None: ...

    def run_resumed(self, experiment: Experiment, rows: Sequence[EpochRow]) -> None:
        """The run continues from a checkpoint, after these epochs."""

    def stepped(self, experiment: Experiment, position: Position) -> None: ...
    def note(self, line: str) -> None: ...


def reached(workload: Workload, experiment: Experiment) -> tuple[int, int]:
    """The epoch, from 1, and the number of its finished steps from which the run will go on."""
    try:
        state = checkpoint.read(_file(workload, experiment), _owner(workload, experiment))
    except (DamagedError, ForeignError):  # the run renames it and begins again
        state = None
    return (state.epoch, state.steps) if state else (1, 0)


def _file(workload: Workload, experiment: Experiment) -> Path:
    return workload.folder / experiment.name / checkpoint.NAME


def _owner(workload: Workload, experiment: Experiment) -> Owner:
    return Owner.of(experiment, workload.dataset.fingerprint, workload.device)


class Checkpointer:
    """Reads and writes the checkpoint of one experiment, whose lock this process holds."""

    def __init__(
        self, workload: Workload, experiment: Experiment, listener: Listener, interrupts: Interrupts
    ) -> None:
        self._folder = workload.folder
        self._file = _file(workload, experiment)
        self._owner = _owner(workload, experiment)
        self._device = workload.device
        self._experiment = experiment
        self._listener = listener
        self._interrupts = interrupts
        self._notes: list[str] = []
        self._written = time.monotonic()
        self._reported = -SECONDS_BETWEEN_POSITIONS
        self._n_images = experiment.train_images or len(workload.dataset.train_labels)

    def read(self) -> RunState | None:
        """Read the state to resume from, or None. Renames a file that cannot be used."""
        try:
            return checkpoint.read(self._file, self._owner)
        except (DamagedError, ForeignError) as error:
            self.reject(error)
            return None

    def resume(self, trainer: Trainer) -> None:
        """Add this process to the history of a restored trainer, and tell the user."""
        state = trainer.state
        now, before = part(self._device), state.parts[-1]
        steps = f" after {count(state.steps, 'step')}" if state.steps else ""
        model = "device_name" if self._device.type == "cuda" else "cpu"
        rounding = "".join(  # what makes the results differ in the last bits
            f", {said} (before: {before[name]})"
            for name, said in (
                ("threads", f"with {now['threads']} threads"),
                (model, f"on {now[model]}"),
                ("memory_format", f"in the memory format {now['memory_format']}"),
            )
            if now[name] != before[name]
        )
        state.resumed_at = (*state.resumed_at, state.epoch)
        state.parts = (*(p for p in state.parts if p != now), now)
        self._listener.run_resumed(self._experiment, state.rows)
        name = self._experiment.name
        self._note(f"{name}: goes on in epoch {state.epoch}{steps}{rounding}")
        self.write(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        """Report the position and write a checkpoint, if that is due or, for the checkpoint, if the
        user wants to stop: see `write`."""
        now = time.monotonic()
        if now - self._reported >= SECONDS_BETWEEN_POSITIONS:
            self._reported = now
            state = trainer.state
            seen = min(state.steps * self._experiment.batch_size, self._n_images)
            loss = float(state.loss_sum) / seen  # the host waits for it, once a second
            self._listener.stepped(self._experiment, Position(state.epoch, state.steps, loss))
        is_due = now - self._written >= SECONDS_BETWEEN_CHECKPOINTS
        if is_due or self._interrupts.arrived:
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint. Then raises KeyboardInterrupt if the user wants to stop.

        Raises UsageError if it cannot be written; the last checkpoint is then unchanged.
        """
        check_there(self._folder)
        state = trainer.snapshot()
        state.notes = tuple(self._notes)
        with writing(self._file):
            checkpoint.write(self._file, self._owner, state)
        self._written = time.monotonic()
        if self._interrupts.arrived:
            raise KeyboardInterrupt

    def remove(self) -> None:
        """Remove the checkpoint of a recorded run. Raises UsageError if that is impossible."""
        checkpoint.remove(self._file)

    def reject(self, error: DamagedError | ForeignError) -> None:
        """Rename a checkpoint that cannot be used, and tell the user."""
        kind = "damaged" if isinstance(error, DamagedError) else "of another run"
        renamed = self._file.with_name(f"{checkpoint.NAME}.{kind.split()[-1]}")
        with writing(renamed):
            os.replace(self._file, renamed)
        self._note(
            f"{self._experiment.name}: the checkpoint is {kind} ({error}): it is now "
            f"{renamed.name}, and the run starts over"
        )

    def _note(self, line: str) -> None:
        """Tell the user a line: through the listener, and in the next checkpoint."""
        self._listener.note(line)
        self._notes.append(line)
