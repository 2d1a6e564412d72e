"""State and adjoint in float32, evaluations of the right-hand side in low precision."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from solvers.checkpoint import Compute, checkpointed, run_again
from solvers.integrate import RightHandSide, advance, checked, integrate, step_grid
from solvers.methods import METHODS, Tableau
from solvers.proof import Checksum
from solvers.replay import Replay

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Stored:
    """Evaluates f under autocast, adds its slopes to the state in float32, and stores everything.

    The reference of `mixed`: the same forward pass, differentiated by autograd without a scale.
    A state in float64 stays in float64, which autocast does not change: it is backprop then.
    """

    dtype: str = "bfloat16"

    family = "solvers.gradients.mixed:STORED"

    @property
    def name(self) -> str:
        default = type(self).dtype
        return self.family + ("" if self.dtype == default else f":dtype={self.dtype}")

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless dtype is one of DTYPES."""
        if self.dtype not in DTYPES:
            raise ValueError(
                f"{self.name} needs a dtype of low precision: choose {' or '.join(DTYPES)}"
            )

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)
        return self.steps(_Cast(rhs, DTYPES[self.dtype]), _raised(z0), method, n_steps)

    def steps(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        return integrate(rhs, z0, METHODS.resolve(method), n_steps)


class Mixed(Stored):
    """Evaluations of f and their vector-Jacobian products in low precision, all sums in float32.

    f is evaluated under the device's autocast to `dtype`; the state, the adjoint and the gradients
    of the parameters are added up in float32 (in float64 for a state in float64). As anode-steps,
    it stores the state before every step, and the backward pass runs one step again at a time and
    differentiates it: the exact discrete adjoint, in the same precision as the forward pass.

    float16 has few exponents, so there the adjoint λ of the step's end is multiplied by a power of
    two S before the differentiation, with max |S·λ| ≈ 1 / (ε√n) for n entries and float16's ε, and
    the result is divided by S in float32. If it is not finite, S is halved and the step is run
    again. The host reads max |λ| and whether the result is finite, so that a step in float16 cannot
    be captured as a CUDA graph. bfloat16 has the exponents of float32: no scale, nothing is read.

    Memory O(L·Nt) float32 states, plus what one step stores in low precision; time one extra
    forward pass. Not where the gradient must be that of a forward pass in float32.

    Source: Celledoni, Owren, Ruthotto, Yang, "Mixed Precision Training of Neural ODEs", arXiv
    2510.23498; they compute n for a single image.
    """

    family = "mixed"
    leaves_statistics = True

    @property
    def exactness(self) -> str:
        return "inexact" if self.is_scaled else "up to summation"

    @property
    def is_capturable(self) -> bool:
        return not self.is_scaled

    @property
    def reference(self) -> str:
        return Stored(self.dtype).name

    @property
    def is_scaled(self) -> bool:
        return self.dtype == "float16"

    def steps(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau, z = METHODS.resolve(method), z0
        for step in step_grid(tableau, n_steps, z0.dtype, z0.device):
            one_step = partial(advance, tableau=tableau, steps=(step,))
            backward = partial(_run_again_scaled, one_step) if self.is_scaled else None
            z = checkpointed(one_step, rhs, z, backward)
        return z


STORED = Stored()


class _Cast(nn.Module):
    """A right-hand side under autocast, whose slope has the state's precision.

    Without autocast's cache: with it the gradients of a weight would be added in low precision.
    """

    def __init__(self, rhs: RightHandSide, dtype: torch.dtype) -> None:
        super().__init__()
        self.rhs: Any = rhs
        self._dtype = dtype

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        try:
            autocast = torch.autocast(z.device.type, dtype=self._dtype, cache_enabled=False)
        except RuntimeError as error:
            raise ValueError(
                f"mixed: the device {z.device.type} has no autocast to {self._dtype}: choose "
                f"another dtype of {', '.join(DTYPES)}, or another device"
            ) from error
        with autocast:
            slope = self.rhs(t, z)
        return checked(slope, z).to(z.dtype)


def _raised(z0: Tensor) -> Tensor:
    return z0.to(torch.promote_types(z0.dtype, torch.float32))


def _run_again_scaled(
    compute: Compute,
    replay: Replay,
    z0: Tensor,
    parameters: Sequence[Tensor],
    end: Sequence[Checksum],
    adjoint: Tensor,
) -> Sequence[Tensor | None]:
    for scale in _scales(adjoint):
        found = run_again(compute, replay, z0, parameters, end, scale * adjoint)
        known = [part for part in found if part is not None]
        if all(part.isfinite().all() for part in known):
            break
    return [None if part is None else part / scale for part in found]


def _scales(adjoint: Tensor) -> Iterator[float]:
    """S, S/2, S/4, …, until float16 has no bit left of the scaled adjoint."""
    largest = float(adjoint.abs().max()) if adjoint.numel() else 0.0
    float16 = torch.finfo(torch.float16)
    if not 0 < largest < math.inf:
        yield 1.0
        return
    exponent = round(-math.log2(float16.eps * math.sqrt(adjoint.numel()) * largest))
    scale = 2.0 ** min(exponent, 126)  # finite in float32
    yield scale
    while scale * largest >= 2 * float16.smallest_normal:
        scale /= 2
        yield scale
