"""Seconds of computations on a device."""

import time
from typing import Any

import torch

TOTAL = "step"
"""The name of the whole step, beside those of its phases."""


class Clock:
    """Starts when it is made. On CUDA it uses events, so that the host does not wait."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._ends: list[tuple[str, Any]] = []
        self._started = self._now()

    def end_phase(self, phase: str) -> None:
        """End a phase, which began with the end of the last one; TOTAL began with the clock."""
        self._ends.append((phase, self._now()))

    def seconds(self) -> dict[str, float]:
        """Phase → seconds."""
        if self._is_cuda:
            self._ends[-1][1].synchronize()
        found, before = {}, self._started
        for phase, end in self._ends:
            start = self._started if phase == TOTAL else before
            found[phase] = start.elapsed_time(end) / 1000 if self._is_cuda else end - start
            before = end
        return found

    def _now(self) -> Any:
        if not self._is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class Stopwatch:
    """A context that adds up the seconds spent inside it.

    On CUDA it uses events: the host waits for the device only in `take`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clocks: list[Clock] = []

    def __enter__(self) -> None:
        self._clocks.append(Clock(self._device))

    def __exit__(self, *error: object) -> None:
        self._clocks[-1].end_phase(TOTAL)

    def take(self) -> float:
        """Return the seconds since the last call."""
        clocks, self._clocks = self._clocks, []
        return sum(clock.seconds()[TOTAL] for clock in clocks)
