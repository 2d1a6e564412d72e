"""The rows of measurements.csv, a class for each study. docs/results.md has all columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GradientRow:
    """One part of one gradient, compared with backprop's.

    part: "all parameters", "block 1", … (its parameters), "z0 of block 1", … (its input), or
    "statistics" (BatchNorm's, after both passes; its cosine means nothing). lipschitz: ‖∂f/∂z‖₂
    at the block's input, or the largest of the network's blocks.
    """

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


@dataclass(frozen=True)
class OdeGradientRow:
    """The gradients of one discrete solve against that of the ODE, g_∞, all parameters together.

    discrete: ‖g_discrete − g_∞‖ / ‖g_∞‖, with backprop's gradient; continuous: the same with
    node's; difference: ‖g_node − g_discrete‖ / ‖g_∞‖. drift, reconstruction and inconsistency: what
    drift between the steps, the reconstruction of the stages in a step, and the scheme have in
    e = g_node − g_discrete, as ⟨part, e⟩ / ‖e‖², which sum to 1. reference_steps: of RK4 for g_∞;
    reference_change: what the last doubling of these changed, relative to ‖g_∞‖.
    """

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


@dataclass(frozen=True)
class LowPrecisionRow:
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


@dataclass(frozen=True)
class CostRow:
    """One phase of a training step: "step" (all of it), "forward", "backward", "optimizer", or
    "compile" (once before the first step).

    seconds, low and high: median and quartiles of the rounds. ratio, ratio_low and ratio_high: of
    the quotients with the whole step of backprop in the same memory format, precision and
    execution. Memory and evaluations are those of an eager step, None if they cannot be seen.
    reason: why a peer cannot do this; all numbers are None then.
    """

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


@dataclass(frozen=True)
class MemoryRow:
    """Peak memory and evaluations of one training step.

    peak_bytes: beyond what was allocated before the step. state_bytes: of the largest state of an
    ODE block. n_blocks: the number of ODE blocks.
    """

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


@dataclass(frozen=True)
class GrowthRow:
    """A training step at one point of a sweep, for one gradient method.

    sweep: "Nt", "batch size" or "width". compared: the gradient methods that took turns, separated
    by commas. width: channels of the widest state of an ODE block. seconds: median of the rounds.
    yardstick: that of the reference step, which takes a turn in every round; relative, low and
    high: median and quartiles of the quotients with it. data_seconds: median of making one
    augmented batch, which no step includes; data_share, …: of its quotients with the step.
    status: "ok", or "oom" if the step did not fit into memory; then nothing else is known.
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
    yardstick: float = math.nan
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


@dataclass(frozen=True)
class ReversalRow:
    """One problem solved forward from t = 0 to 1, then backward.

    rho: ‖φ(φ(z0, 1), -1) - z0‖₂ / ‖z0‖₂, infinite if status is not "ok" (the result is not finite,
    or the adaptive solver gave up). n_steps and n_steps_back: fixed or accepted steps. tolerance:
    the relative one, 0 with fixed steps. nfe: both directions. data and fingerprint: of the
    images, or "none".
    """

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


def key_of(case_or_row: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """The values of these fields: equal for a case and its rows."""
    return tuple(getattr(case_or_row, name) for name in names)
