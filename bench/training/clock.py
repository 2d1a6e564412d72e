"""Seconds of computations on a device."""

import time
from typing import Protocol

import torch

TOTAL = "step"
"""The name of the whole step, beside those of its phases."""


class Clock(Protocol):
    """Starts when it is made. `seconds` returns how long each ended phase took."""

    def end_phase(self, phase: str) -> None: ...
    def seconds(self) -> dict[str, float]: ...


def start(device: torch.device) -> Clock:
    """Return a clock for a device; on CUDA it uses events, so that the host does not wait."""
    return _CudaClock() if device.type == "cuda" else _HostClock()


class Stopwatch:
    """A context that adds up the seconds spent inside it.

    On CUDA it uses events: the host waits for the device only in `take`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clocks: list[Clock] = []

    def __enter__(self) -> None:
        self._clocks.append(start(self._device))

    def __exit__(self, *error: object) -> None:
        self._clocks[-1].end_phase(TOTAL)

    def take(self) -> float:
        """Return the seconds since the last call."""
        clocks, self._clocks = self._clocks, []
        return sum(clock.seconds()[TOTAL] for clock in clocks)


class _HostClock:
    def __init__(self) -> None:
        self._marks: list[tuple[str, float]] = []
        self._started = time.perf_counter()

    def end_phase(self, phase: str) -> None:
        self._marks.append((phase, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        found, before = {}, self._started
        for phase, now in self._marks:
            found[phase] = now - (self._started if phase == TOTAL else before)
            before = now
        return found


class _CudaClock:
    def __init__(self) -> None:
        self._marks: list[tuple[str, torch.cuda.Event]] = []
        self._started = self._event()

    def end_phase(self, phase: str) -> None:
        self._marks.append((phase, self._event()))

    def seconds(self) -> dict[str, float]:
        self._marks[-1][1].synchronize()
        found, before = {}, self._started
        for phase, event in self._marks:
            since = self._started if phase == TOTAL else before
            found[phase] = since.elapsed_time(event) / 1000
            before = event
        return found

    @staticmethod
    def _event() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
