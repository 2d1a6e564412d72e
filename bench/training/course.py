"""What there is of a run, from its start on: in this process and in those that stopped."""

import time
from collections.abc import Mapping
from typing import Any

from bench.environment import now
from bench.records import EpochRow
from bench.training.checkpoint import Checkpoint, Owner


class Course:
    """rows: the epochs that are over. resumed_at: in which epochs the run was gone on with.
    earlier_parts: the `environment.part()` of those before, where they are not this one's.
    started_at: when it began, in words. peak_bytes of one step, once it is measured."""

    def __init__(self) -> None:
        self.rows: list[EpochRow] = []
        self.peak_bytes: int | None = None
        self.resumed_at: tuple[int, ...] = ()
        self.earlier_parts: tuple[Mapping[str, Any], ...] = ()
        self.started_at = now()
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Spent on it. What a killed process did after its last checkpoint is not in it."""
        return time.perf_counter() - self._started

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_started": self.seconds}  # another machine has another clock

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _started=time.perf_counter() - state["_started"])

    def go_on(self, found: Checkpoint, epoch: int, part: Mapping[str, Any]) -> None:
        """The run goes on from a checkpoint, in this epoch; part: the `environment.part()` now."""
        self.rows = [*found.rows]
        self.peak_bytes = found.peak_bytes
        self.resumed_at = (*found.resumed_at, epoch)
        self.earlier_parts = tuple(earlier for earlier in found.parts if earlier != part)
        self.started_at = found.started_at
        self._started -= found.seconds

    def checkpoint(
        self, owner: Owner, trainer: Mapping[str, Any], part: Mapping[str, Any]
    ) -> Checkpoint:
        return Checkpoint(
            owner,
            trainer,
            tuple(self.rows),
            self.peak_bytes,
            (*self.earlier_parts, part),
            self.seconds,
            self.resumed_at,
            self.started_at,
        )
