"""Seconds of a computation, compared fairly."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Variant = TypeVar("Variant", bound=Hashable)


@dataclass(frozen=True)
class Seconds:
    """Median and quartiles of the repeats, in seconds."""

    median: float
    low: float
    high: float
    repeats: int


def interleaved_seconds(
    variants: Mapping[Variant, Callable[[], object]], device: torch.device, repeats: int
) -> dict[Variant, Seconds]:
    """Seconds of each variant after one warm-up, all variants in turn in every round.

    What disturbs the machine for a while then disturbs all of them alike, so that their ratios
    hold. On CUDA the time is taken with events.
    """
    for run in variants.values():
        run()
    clock = _cuda_seconds if device.type == "cuda" else _cpu_seconds
    taken: dict[Variant, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            taken[name].append(clock(run))
    return {name: _summary(seconds) for name, seconds in taken.items()}


def _summary(seconds: Sequence[float]) -> Seconds:
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Seconds(float(median), float(low), float(high), len(seconds))


def _cpu_seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _cuda_seconds(run: Callable[[], object]) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000
