"""Seconds of what runs on a device."""

import time
from typing import Protocol

import torch

WHOLE = "step"
"""The phase that all others make up."""


class Clock(Protocol):
    """Runs from when it is made. Told when phases are over, it says how long each took."""

    def passed(self, phase: str) -> None: ...
    def seconds(self) -> dict[str, float]: ...


def start(device: torch.device) -> Clock:
    """A clock for a device; on CUDA with events, so that the host need not wait."""
    return _CudaClock() if device.type == "cuda" else _HostClock()


class Stopwatch:
    """Adds up the seconds of what runs inside it, as a context, again and again.

    On CUDA with events, so that the host does not wait for the device before `seconds`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clocks: list[Clock] = []

    def __enter__(self) -> None:
        self._clocks.append(start(self._device))

    def __exit__(self, *error: object) -> None:
        self._clocks[-1].passed(WHOLE)

    def seconds(self) -> float:
        return sum(clock.seconds()[WHOLE] for clock in self._clocks)


class _HostClock:
    def __init__(self) -> None:
        self._marks: list[tuple[str, float]] = []
        self._started = time.perf_counter()

    def passed(self, phase: str) -> None:
        self._marks.append((phase, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        found, before = {}, self._started
        for phase, now in self._marks:
            found[phase] = now - (self._started if phase == WHOLE else before)
            before = now
        return found


class _CudaClock:
    def __init__(self) -> None:
        self._marks: list[tuple[str, torch.cuda.Event]] = []
        self._started = self._event()

    def passed(self, phase: str) -> None:
        self._marks.append((phase, self._event()))

    def seconds(self) -> dict[str, float]:
        self._marks[-1][1].synchronize()
        found, before = {}, self._started
        for phase, event in self._marks:
            since = self._started if phase == WHOLE else before
            found[phase] = since.elapsed_time(event) / 1000
            before = event
        return found

    @staticmethod
    def _event() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
