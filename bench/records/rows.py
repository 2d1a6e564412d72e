"""The rows of measurements.csv, a class for each study.

docs/results.md describes all columns.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.quantities import GRADIENT_ERROR, Quantity, Row

_STEP = ("network", "method", "n_steps", "gradient", "batch_size", "device")


@dataclass(frozen=True)
class GradientRow(Row):
    """One part of one gradient, compared with backprop's."""

    network: str
    method: str
    n_steps: int
    gradient: str
    precision: str
    weights: str
    activation: str
    scale: float
    device: str
    part: str
    error: float
    cosine: float
    lipschitz: float

    identity = (
        *("network", "method", "n_steps", "gradient", "precision"),
        *("weights", "activation", "scale", "device", "part"),
    )

    def quantities(self) -> Iterator[Quantity]:
        yield Quantity.rounded(GRADIENT_ERROR, self.error, self.precision)


@dataclass(frozen=True)
class OdeGradientRow(Row):
    """The gradients of one discrete solve, compared with the gradient of the ODE."""

    network: str
    method: str
    n_steps: int
    weights: str
    activation: str
    device: str
    discrete: float
    continuous: float
    difference: float
    drift: float
    reconstruction: float
    inconsistency: float
    reference_steps: int
    reference_change: float

    identity = ("network", "method", "n_steps", "weights", "activation", "device")

    def quantities(self) -> Iterator[Quantity]:
        for name in ("discrete", "continuous", "difference"):
            value = getattr(self, name)
            yield Quantity.rounded(f"{GRADIENT_ERROR}, {name}", value, "float64")


@dataclass(frozen=True)
class LowPrecisionRow(Row):
    """The gradient of one method in one precision, all parameters together, at initial weights.

    precision: "float32", "tf32", "bfloat16" or "float16" (autocast around the whole network), or
    "float16-scaled" (the same, with a scaled loss). error, cosine: against the gradient of
    backprop in float64; rounding: error against that of the same method in float64. peak_bytes: of
    a forward and a backward pass. ratio, …: median and quartiles of its time over backprop's in
    float32. reason: why there are no numbers.
    """

    network: str
    method: str
    n_steps: int
    gradient: str
    precision: str
    batch_size: int
    seed: int
    device: str
    error: float | None = None
    cosine: float | None = None
    rounding: float | None = None
    peak_bytes: int | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    reason: str = ""

    identity = (*_STEP, "precision")

    def quantities(self) -> Iterator[Quantity]:
        if self.peak_bytes is not None:
            yield Quantity.exact("peak memory", self.peak_bytes)
        if self.error is not None:
            yield Quantity.rounded(GRADIENT_ERROR, self.error, self.precision)


@dataclass(frozen=True)
class CostRow(Row):
    """One phase of a training step. All numbers are None for a peer that cannot be measured; memory
    and evaluations also where they cannot be seen."""

    network: str
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    memory_format: str
    precision: str
    execution: str
    device: str
    phase: str
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    repeats: int | None = None
    peak_bytes: int | None = None
    nfe_forward: int | None = None
    nfe_backward: int | None = None
    gradient_error: float | None = None
    reason: str = ""

    identity = (*_STEP, "memory_format", "precision", "execution", "phase")

    def quantities(self) -> Iterator[Quantity]:
        if self.seconds is not None:
            yield Quantity("time per step", self.seconds, self.low, self.high)
        if self.phase != "step":
            return
        if self.peak_bytes is not None:
            yield Quantity.exact("peak memory", self.peak_bytes)
        if self.gradient_error is not None:
            yield Quantity.rounded(GRADIENT_ERROR, self.gradient_error, self.precision)


@dataclass(frozen=True)
class MemoryRow(Row):
    """Peak memory, beyond what was allocated before, and evaluations of one training step."""

    network: str
    n_blocks: int
    method: str
    n_steps: int
    gradient: str
    batch_size: int
    device: str
    state_bytes: int
    peak_bytes: int
    nfe_forward: int
    nfe_backward: int

    identity = _STEP

    def quantities(self) -> Iterator[Quantity]:
        yield Quantity.exact("peak memory", self.peak_bytes)


@dataclass(frozen=True)
class GrowthRow(Row):
    """A training step at one point of a sweep, for one gradient method.

    Without numbers if the status is "oom". compared: the gradient methods that were interleaved,
    separated by commas.
    """

    sweep: str
    network: str
    method: str
    n_steps: int
    gradient: str
    compared: str
    batch_size: int
    width: int
    device: str
    status: str
    seconds: float = math.nan
    reference_seconds: float = math.nan
    relative: float = math.nan
    low: float = math.nan
    high: float = math.nan
    data_seconds: float = math.nan
    data_share: float = math.nan
    data_share_low: float = math.nan
    data_share_high: float = math.nan
    repeats: int = 0
    peak_bytes: int = 0
    nfe_forward: int = 0
    nfe_backward: int = 0

    identity = (*_STEP, "sweep", "compared", "width")

    def quantities(self) -> Iterator[Quantity]:
        yield Quantity.exact("completed", self.status == "ok")
        if self.status == "ok":
            unit = self.seconds / self.relative  # the spread is of the quotients
            low, high = self.low * unit, self.high * unit
            yield Quantity("time per step", self.seconds, low, high)
            yield Quantity.exact("peak memory", self.peak_bytes)


@dataclass(frozen=True)
class ReversalRow(Row):
    """One problem solved forward from t = 0 to 1, then backward."""

    problem: str
    activation: str
    scheme: str
    n_steps: int
    n_steps_back: int
    tolerance: float
    precision: str
    seed: int
    rho: float
    status: str
    nfe: int
    device: str
    data: str
    fingerprint: str

    identity = (
        *("problem", "activation", "scheme", "n_steps", "n_steps_back", "tolerance"),
        *("precision", "device"),
    )

    def quantities(self) -> Iterator[Quantity]:
        yield Quantity.exact("completed", self.status == "ok")
        if not math.isnan(self.rho):
            yield Quantity("reversal error", self.rho)


def key_of(case_or_row: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """The values of these fields: equal for a case and its rows."""
    return tuple(getattr(case_or_row, name) for name in names)
