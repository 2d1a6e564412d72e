"""The study `gradients`: gradient errors of networks that are not being trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch

from bench.data import Dataset
from bench.records import GradientRow
from bench.studies.gradient_runner import ACTIVATIONS, GradientCase, GradientRunner
from bench.studies.regression import Comparison
from bench.studies.study import FOUR_NETWORKS, Study
from solvers import GRADIENTS
from solvers.gradients import exactness

ALL_GRADIENTS = tuple(name for name in GRADIENTS if name != "node-grid-frozen")
"""Without node-grid-frozen, whose gradient equals node-grid's bit for bit."""

FIXED_STEP_GRADIENTS = tuple(
    name for name, method in GRADIENTS.items() if not getattr(method, "is_adaptive", False)
)
"""Methods whose memory and evaluations are the same on every machine."""

CHECKED_GRADIENTS = tuple(
    name
    for name, method in GRADIENTS.items()
    if name in FIXED_STEP_GRADIENTS or exactness(method) != "inexact"
)
"""The methods of the regression check: with fixed steps, whose errors are the same on every
machine, or exact ones."""

MOVED = 1e-9
"""By how much, relatively, the error of an inexact method may differ from the reference.

Measured in float64, where another machine's order of summation moves it by about 1e-13, while a
gradient that is wrong by one part in a million moves it by 1e-7 or more.
"""

NOTHING = 1e-12
"""Errors below this are rounding, which another number of threads changes by a tenth and more.

`reversible` with a single step has such errors: there it is the scheme that it is built on.
"""

ROUNDING = 1e-14
"""The largest error that the order of summation explains in float64: a few units of 1e-16."""


class GradientComparison(Comparison[GradientRow]):
    """An exact method must have an error of zero, one that is exact up to summation at most 1e-14.

    Any other method must have the reference's error to within a relative 1e-9: an error that falls
    unexpectedly is a finding as well. The rule follows from what the method states: `exactness`,
    and `leaves_statistics` for the part "statistics".
    """

    def is_absolute(self, row: GradientRow) -> bool:
        return _largest_error(row) is not None

    def absolute_problem(self, row: GradientRow) -> str | None:
        largest = _largest_error(row)
        if largest is None or row.error <= largest:
            return None
        return f"must be at most {largest:g}" if largest else "must be exactly 0"

    def problem(self, row: GradientRow, reference: GradientRow) -> str | None:
        if not math.isclose(row.cosine, reference.cosine, rel_tol=MOVED, abs_tol=NOTHING):
            return f"its cosine was {reference.cosine:.6g} and is {row.cosine:.6g}"
        if math.isclose(row.error, reference.error, rel_tol=MOVED, abs_tol=NOTHING):
            return None
        if not reference.error:
            return f"was 0 and is {row.error:.2g}"
        moved = abs(row.error / reference.error - 1)
        return f"was {reference.error:.6g}: moved by {moved:.1e} of it"

    def describe(self, row: GradientRow) -> dict[str, str]:
        return {
            "network": row.network,
            "scheme": f"{row.method}, Nt {row.n_steps}, {row.precision}",
            "gradient": row.gradient,
            "part": row.part,
            "error": f"{row.error:.6g}",
        }


def _largest_error(row: GradientRow) -> float | None:
    """The largest error that the gradient method's own statements allow; None for any."""
    method = GRADIENTS.resolve(row.gradient)
    stated = exactness(method)
    leaves = row.part == "statistics" and getattr(method, "leaves_statistics", False)
    if stated == "exact" or leaves:
        return 0.0
    return ROUNDING if stated == "up to summation" else None


@dataclass(frozen=True)
class GradientStudy(Study):
    """Gradient errors without training, on the first `images` generated images.

    Every network × method × Nt × gradient method × precision × weights; then, at initialisation in
    float64, every activation for the varied_ methods, and every scale with scaled_n_steps.

    The check_ fields choose the cases of the regression check, in float64 and at initialisation,
    where the numbers are the same on every machine. An inexact adaptive method is not among them:
    its step control turns a rounding error into another number of steps.
    """

    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("euler", "rk2", "rk4_38")
    n_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    gradients: tuple[str, ...] = ALL_GRADIENTS
    precisions: tuple[str, ...] = ("float32", "float64")
    weights: tuple[str, ...] = ("initial", "trained")
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    scales: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
    varied_methods: tuple[str, ...] = ("euler", "rk2", "rk4_38")
    varied_gradients: tuple[str, ...] = ("anode", "node", "node-grid")
    scaled_n_steps: tuple[int, ...] = (2,)
    images: int = 4
    check_gradients: tuple[str, ...] = CHECKED_GRADIENTS
    check_methods: tuple[str, ...] = ("euler", "rk2")
    check_n_steps: tuple[int, ...] = (1, 3)

    row = GradientRow
    key = tuple(GradientCase.__dataclass_fields__)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "network": ("networks",),
        "method": ("methods", "varied_methods", "check_methods"),
        "Nt": ("n_steps", "scaled_n_steps", "check_n_steps"),
        "gradient": ("gradients", "varied_gradients", "check_gradients"),
    }
    comparison = GradientComparison()

    def cases(self) -> tuple[GradientCase, ...]:
        networks, methods, gradients = self.networks, self.varied_methods, self.varied_gradients
        initial = ("float64",), ("initial",)
        found: list[tuple[Any, ...]] = [
            *product(
                *(networks, self.methods, self.n_steps, self.gradients),
                *(self.precisions, self.weights),
            ),
            *product(networks, methods, self.n_steps, gradients, *initial, self.activations),
            *product(
                *(networks, methods, self.scaled_n_steps, gradients),
                *(*initial, ("relu",), self.scales),
            ),
        ]
        return tuple(dict.fromkeys(GradientCase(*case) for case in found))

    def check_cases(self) -> tuple[GradientCase, ...]:
        # anode's gradient must be exact in float32 as well.
        common = (self.networks, self.check_methods, self.check_n_steps)
        return (
            *(GradientCase(*case) for case in product(*common, self.check_gradients)),
            *(GradientCase(*case) for case in product(*common, ("anode",), ("float32",))),
        )

    def runner(self, dataset: Dataset, device: torch.device) -> GradientRunner:
        return GradientRunner(dataset, device, self.images)
