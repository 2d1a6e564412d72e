"""The study `low-precision`: gradients in low precision against those of float64."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.context import Workload
from bench.data import Dataset
from bench.environment import prepare
from bench.errors import first_line
from bench.experiment import Experiment
from bench.instruments import gradient_error, memory, timing
from bench.instruments.gradient_error import Observed
from bench.records import LowPrecisionRow
from bench.studies.study import FOUR_NETWORKS, OPTIONS, Runner, Study
from bench.training.clock import TOTAL
from bench.training.network import InAutocast, build_network
from bench.training.step import differentiate_once

AUTOCAST = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float16-scaled": torch.float16,
}
"""Precision → the dtype of autocast around the whole network."""

Problem = tuple[nn.Module, Tensor, Tensor]
"""Network with the initial weights of a seed, images and labels."""

FIRST_SCALE = 2.0**16
"""First factor of the loss with float16-scaled, as GradScaler's; halved until all gradients are
finite."""


@dataclass(frozen=True)
class LowPrecisionCase:
    """One network, gradient method and precision; seed: of the initial weights."""

    network: str
    method: str
    n_steps: int
    gradient: str
    precision: str
    batch_size: int
    seed: int

    @property
    def name(self) -> str:
        return (
            f"{self.network}, {self.method}, Nt {self.n_steps}, {self.gradient}, "
            f"{self.precision}, seed {self.seed}"
        )

    def __post_init__(self) -> None:
        checked = self.experiment(self.gradient)
        for field in ("network", "method", "gradient"):
            object.__setattr__(self, field, getattr(checked, field))

    def experiment(self, gradient: str) -> Experiment:
        return Experiment(
            *(self.network, gradient, self.method, self.n_steps, self.seed),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class LowPrecisionStudy(Study):
    """Every network × method × Nt × seed × gradient method × precision, at initial weights.

    precisions: that of the whole network, "float32", "tf32" (on CUDA alone) or one of AUTOCAST.
    repeats: rounds of the timing.
    """

    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("rk2",)
    n_steps: tuple[int, ...] = (2,)
    gradients: tuple[str, ...] = (
        *("backprop", "anode", "anode-steps", "symplectic", "reversible", "node"),
        *("mixed", "mixed:dtype=float16"),
    )
    precisions: tuple[str, ...] = ("float32", "tf32", *AUTOCAST)
    seeds: tuple[int, ...] = (0,)
    batch_size: int = 32
    repeats: int = 3

    row: ClassVar[type[LowPrecisionRow]] = LowPrecisionRow
    key: ClassVar[tuple[str, ...]] = tuple(LowPrecisionCase.__dataclass_fields__)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OPTIONS,
        "seeds": ("seeds",),
        "batch_size": ("batch_size",),
    }

    def cases(self) -> tuple[LowPrecisionCase, ...]:
        found = [
            LowPrecisionCase(network, method, n_steps, gradient, precision, self.batch_size, seed)
            for seed, network, method, n_steps, gradient, precision in product(
                *(self.seeds, self.networks, self.methods, self.n_steps),
                *(self.gradients, self.precisions),
            )
        ]
        return tuple(dict.fromkeys(found))

    def runner(self, dataset: Dataset, device: torch.device) -> "LowPrecisionRunner":
        workload = Workload.of_steps(self.name, dataset, device, self.batch_size)
        return LowPrecisionRunner(workload, self.repeats)

    def remark(self, case: LowPrecisionCase, row: LowPrecisionRow) -> str:
        return f"{case.name}: {row.reason}" if row.reason else ""


class LowPrecisionRunner(Runner):
    """Measures a forward and a backward pass."""

    def __init__(self, workload: Workload, repeats: int) -> None:
        self._workload, self._repeats = workload, repeats
        # Successive cases share backprop's and their own method's.
        self._exact = lru_cache(maxsize=2)(self._in_float64)

    def measure(self, case: LowPrecisionCase) -> list[LowPrecisionRow]:
        """One row, with the reason if the method cannot do it; none for TF32 without CUDA."""
        device = self._workload.device
        if case.precision == "tf32" and device.type != "cuda":
            return []
        found: dict[str, Any]
        try:
            found = self._measured(case)
        except (ValueError, RuntimeError) as error:
            found = {"reason": first_line(error)}
        finally:
            _prepare(device, "float32")
        return [LowPrecisionRow(**asdict(case), device=device.type, **found)]

    def _measured(self, case: LowPrecisionCase) -> dict[str, float]:
        device = self._workload.device
        backprop, own = (case.experiment(name) for name in ("backprop", case.gradient))
        exact, own_exact = self._exact(backprop), self._exact(own)
        problem = self._problem(own, case.precision)
        _prepare(device, case.precision)
        observe = _scaled if case.precision == "float16-scaled" else gradient_error.observe
        gradient = observe(*problem)
        error = gradient_error.compare(gradient, exact)
        if not math.isfinite(error.error):
            raise ValueError("the gradient is not finite")
        steps = {
            "own": partial(self._step, problem, case.precision),
            "reference": partial(self._step, self._problem(backprop, "float32"), "float32"),
        }
        taken = timing.interleaved(steps, device, self._repeats)
        ratio = timing.Seconds.of(taken["own"][TOTAL] / taken["reference"][TOTAL])
        return {
            "error": error.error,
            "cosine": error.cosine,
            "rounding": gradient_error.compare(gradient, own_exact).error,
            "peak_bytes": memory.peak_bytes(steps["own"], device),
            "ratio": ratio.median,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
        }

    def _step(
        self, problem: Problem, precision: str, passed: timing.Passed = lambda phase: None
    ) -> None:
        _prepare(self._workload.device, precision)
        differentiate_once(*problem)

    def _problem(self, experiment: Experiment, precision: str) -> Problem:
        images, labels = self._workload.fixed_batch(experiment.batch_size)
        network = build_network(experiment, self._workload.device)
        if precision == "float64":
            return network.double(), images.double(), labels
        dtype = AUTOCAST.get(precision)
        cast = InAutocast(network, self._workload.device, dtype) if dtype else network
        return cast, images, labels

    def _in_float64(self, experiment: Experiment) -> Observed:
        return gradient_error.observe(*self._problem(experiment, "float64"))


def _prepare(device: torch.device, precision: str) -> None:
    prepare(device, precision if precision == "tf32" else "float32")


def _scaled(network: nn.Module, images: Tensor, labels: Tensor) -> Observed:
    """`observe` with a scaled loss, and the gradients divided by the scale again."""
    scale = FIRST_SCALE
    while True:
        found = gradient_error.observe(network, images, labels, loss_scale=scale)
        if scale < 1 or all(gradient.isfinite().all() for gradient in found.parameters):
            return found
        scale /= 2
