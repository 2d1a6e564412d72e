"""The position of a run, and the remaining time of all runs."""

import time
from dataclasses import dataclass

PLAN_WEIGHT = 5.0
"""Planned seconds after whose work the measured speed counts as much as the plan."""


@dataclass(frozen=True)
class Position:
    """A place in a run. epoch: the current one, from 1. step: number of its finished training
    steps; after the last one the network is tested. loss: mean training loss of these steps."""

    epoch: int
    step: int
    loss: float


@dataclass(frozen=True)
class Plan:
    """The parts of a run, and estimated seconds of each.

    n_steps: training steps of an epoch. step: one of them. test: the tests after an epoch.
    last_test: those after the last epoch.
    """

    n_epochs: int
    n_steps: int
    step: float
    test: float = 0.0
    last_test: float = 0.0

    @property
    def total(self) -> float:
        return self.until(self.n_epochs + 1)

    def until(self, epoch: int, step: int = 0) -> float:
        """Seconds from the start of the run until so many steps of an epoch are finished."""
        last = self.last_test - self.test if epoch > self.n_epochs else 0.0
        before = epoch - 1
        return (before * self.n_steps + step) * self.step + before * self.test + last


class Clock:
    """Converts planned seconds to real ones by the speed that is measured from its start.

    expected: real seconds of a planned one, before anything is measured.
    """

    def __init__(self, expected: float = 1.0) -> None:
        self._expected = expected
        self._started = self._counted = time.monotonic()
        self._done = 0.0

    def begin(self) -> None:
        """Measure from now on, unless work was finished before."""
        if not self._done:
            self._started = self._counted = time.monotonic()

    def count(self, planned: float) -> None:
        """Add work that is finished now, in planned seconds."""
        self._done += planned
        self._counted = time.monotonic()

    def seconds(self, planned: float) -> float:
        """Real seconds that this work needs, from now on."""
        passed = self._counted - self._started
        speed = (passed + PLAN_WEIGHT * self._expected) / (self._done + PLAN_WEIGHT)
        return max(0.0, planned * speed - (time.monotonic() - self._counted))
