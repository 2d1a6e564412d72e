"""Seconds of computations that are compared, measured in turn."""

import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from bench.training.clock import TOTAL, Clock

Variant = TypeVar("Variant", bound=Hashable)
Passed = Callable[[str], None]
"""Called with the name of each phase of a computation when it is over."""


@dataclass(frozen=True)
class Seconds:
    """Median and quartiles of the repeats, in seconds."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, taken: np.ndarray) -> "Seconds":
        low, median, high = np.quantile(taken, (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high), len(taken))


def interleaved(
    variants: Mapping[Variant, Callable[[Passed], object]], device: torch.device, repeats: int
) -> dict[Variant, dict[str, np.ndarray]]:
    """Seconds (repeats,) of each variant's phases, and of the whole "step".

    All variants take turns in every round, after one warm-up: a disturbance of the machine affects
    all of them, so that their ratios within a round hold. Each round has a random order, else each
    variant would always find the caches and threads as the same other one left them. On CUDA time
    is measured with events.
    """
    order, generator = list(variants), random.Random(0)
    for run in variants.values():
        run(lambda phase: None)
    taken: dict[Variant, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(repeats):
        generator.shuffle(order)
        for name in order:
            clock = Clock(device)
            variants[name](clock.end_phase)
            clock.end_phase(TOTAL)
            taken[name].append(clock.seconds())
    return {
        name: {phase: np.array([round_[phase] for round_ in rounds]) for phase in rounds[0]}
        for name, rounds in taken.items()
    }
