"""The problems of §III of the ANODE paper (Gholami, Keutzer, Biros 2019), as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.instruments.reversal import Rhs, State

CONVOLUTION = "convolution"
"""One 3×3 convolution, then an activation, on an image: the problem of Figures 1 and 7."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda z: z,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}

Maker = Callable[[int], tuple[Callable[[Any], Any], State]]
"""Seed → f and z0."""


@dataclass(frozen=True)
class Problem:
    """dz/dt = f(z), z(0) = z0, on NumPy scalars or vectors, and the sweep that it is solved on.

    n_steps: scheme → largest number of fixed steps, "" for all others.
    stated: numbers of steps that the paper names. digits: the adaptive tolerances are 10^-digits.
    """

    make: Maker
    activation: str
    n_steps: Mapping[str, int]
    stated: tuple[int, ...] = ()
    digits: tuple[int, ...] = ()
    schemes: tuple[str, ...] = ()
    depends_on_seed: bool = False
    precisions: tuple[str, ...] = ("float64",)


def small(problem: Problem, precision: str, seed: int) -> tuple[Rhs, State]:
    """The right-hand side f(t, z) and z0 of a NumPy problem, in a precision."""
    f, z0 = problem.make(seed)
    dtype = np.dtype(precision).type
    return lambda t, z: f(z), z0.astype(dtype)


def convolution(activation: str, seed: int, device: torch.device) -> Rhs:
    """3 → 3 channels, no bias, zero padding, Gaussian weights N(0, 1), in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 3, 3, 3, generator=generator, dtype=torch.float64).to(device)
    activate = ACTIVATIONS[activation]
    return lambda t, z: activate(F.conv2d(z, weight, padding=1))


def _from_one(f: Callable[[Any], Any]) -> Maker:
    return lambda seed: (f, np.float64(1))


def _residual(a: float) -> Maker:
    return _from_one(lambda z: a * np.maximum(0, z))


def _gaussian(seed: int, *, unit_norm: bool) -> tuple[Callable[[Any], Any], State]:
    random = np.random.RandomState(seed)
    weight, z0 = random.standard_normal((100, 100)), random.standard_normal(100)
    if unit_norm:
        weight /= np.linalg.norm(weight, 2)

    def f(z: Any) -> Any:
        return np.maximum(0, weight.astype(z.dtype, copy=False) @ z)

    return f, z0


RK45 = ("rk45", "rk45_relative")

# The reversible pair amplifies rounding by 1/0.99 a step: after some thousand steps all is noise.
PROBLEMS: Mapping[str, Problem] = {
    "linear-100": Problem(
        _from_one(lambda z: -100.0 * z),
        "none",
        {"euler": 1_000_000, "reversible": 3_000, "": 20_000},
        stated=(200_000,),
        digits=tuple(range(1, 11)),
        schemes=RK45,
    ),
    "linear-10000": Problem(
        _from_one(lambda z: -1e4 * z),
        "none",
        {"reversible": 3_000, "": 30_000},
        digits=(3, 6),
        schemes=RK45,
    ),
    "relu-decay": Problem(
        _from_one(lambda z: -np.maximum(0, 10 * z)),
        "relu",
        {"euler": 100_000, "reversible": 3_000, "": 10_000},
        stated=(11, 18, 211),
        digits=tuple(range(1, 13)),
        schemes=RK45,
        precisions=("float64", "float32"),
    ),
    "gaussian": Problem(
        partial(_gaussian, unit_norm=False),
        "relu",
        {"euler": 100_000, "rk2": 30_000, "reversible": 3_000, "": 10_000},
        stated=(10_000,),
        digits=(2, 4, 6, 8, 9, 10, 11, 12, 13, 14),
        schemes=RK45[:1],
        depends_on_seed=True,
        precisions=("float64", "float32"),
    ),
    "gaussian-unit": Problem(
        partial(_gaussian, unit_norm=True),
        "relu",
        {"euler": 10_000, "": 1_000},
        digits=tuple(range(1, 13)),
        schemes=RK45[:1],
        depends_on_seed=True,
    ),
    **{f"residual-{a:g}": Problem(_residual(a), "relu", {"": 1}) for a in (0.01, 0.1, 0.5, 1.0)},
}
