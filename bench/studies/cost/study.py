"""The study `cost`: seconds and peak bytes of a training step, all variants in turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, ClassVar

import torch

from bench.context import Workload
from bench.data import Dataset
from bench.environment import CHANNELS_LAST, CONTIGUOUS, check_precision, prepare
from bench.experiment import Experiment
from bench.records import CostRow
from bench.studies.cost.cases import CostCase, Variant
from bench.studies.cost.runner import CostRunner
from bench.studies.peers import is_peer, reason
from bench.studies.regression import Comparison
from bench.studies.study import FOUR_NETWORKS, OPTIONS, Study
from solvers import GRADIENTS

TORCH_PEERS = (
    "bench.peers.original:ORIGINAL",
    "bench.peers.torch_checkpoint:BLOCK",
    "bench.peers.torch_checkpoint:STEPS",
    "bench.peers.with_torchode:BACKPROP",
    "bench.peers.with_torchode:ADJOINT",
    "bench.peers.with_torchdyn:BACKPROP",
    "bench.peers.with_torchdyn:ADJOINT",
)
JAX_PEERS = ("bench.peers.with_diffrax:RECURSIVE", "bench.peers.with_diffrax:BACKSOLVE")
PEERS = (*TORCH_PEERS, *JAX_PEERS)
"""Gradient methods of other libraries; see bench/peers/."""

IN_BOTH_FORMATS = ("backprop", "anode", "anode-auto", "node", *TORCH_PEERS)
CHECKED_IN_BOTH_FORMATS = ("backprop", "node")


SLOWER = 0.15
"""By how much, relatively, a ratio of times may differ from the reference's: machines differ in
what a forward pass costs beside a backward pass, and shared ones are noisy."""


class CostComparison(Comparison[CostRow]):
    """The ratio of the whole step to backprop's may differ by 15%; seconds are not compared."""

    experiment_key = ("network", "method", "n_steps", "gradient", "batch_size", "precision")

    def experiments(self, case: CostCase) -> Sequence[Experiment]:
        return case.experiments

    def problem(self, row: CostRow, reference: CostRow) -> str | None:
        if row.reason:
            return f"it could not be measured: {row.reason}"
        if row.phase != "step":
            return None
        if row.ratio is None or reference.ratio is None:
            return "one of the two has no ratio"
        if abs(row.ratio / reference.ratio - 1) <= SLOWER:
            return None
        return f"was {reference.ratio:.3f}: {row.ratio / reference.ratio - 1:+.0%}"

    def describe(self, row: CostRow) -> dict[str, str]:
        return {
            "network": row.network,
            "scheme": f"{row.method}, Nt {row.n_steps}, {row.memory_format}, {row.execution}",
            "gradient": row.gradient,
            "phase": row.phase,
            "ratio to backprop": "none" if row.ratio is None else f"{row.ratio:.3f}",
        }


@dataclass(frozen=True)
class CostStudy(Study):
    """Every network × method × Nt, with every gradient method in channels-last.

    Those of IN_BOTH_FORMATS are also measured contiguous, the usual format of other code. On CUDA,
    steps that can be captured as CUDA graphs are measured both ways. repeats: rounds.
    check_gradients: those of the regression check.
    """

    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("rk2",)
    n_steps: tuple[int, ...] = (2,)
    gradients: tuple[str, ...] = (
        *("backprop", "anode", "anode-auto", "anode-steps", "anode-revolve", "symplectic", "mixed"),
        *("reversible", "node", "backprop-torchdiffeq", *PEERS),
    )
    batch_size: int = 64
    precision: str = "float32"
    repeats: int = 15
    check_gradients: tuple[str, ...] = ("anode", "anode-auto", "node")

    row: ClassVar[type[CostRow]] = CostRow
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OPTIONS,
        "gradient": ("gradients", "check_gradients"),
        "batch_size": ("batch_size",),
        "precision": ("precision",),
    }
    comparison: ClassVar[CostComparison] = CostComparison()

    def cases(self) -> tuple[CostCase, ...]:
        return self._cases(self.gradients, IN_BOTH_FORMATS)

    def check_cases(self) -> tuple[CostCase, ...]:
        return self._cases(self.check_gradients, CHECKED_IN_BOTH_FORMATS)

    def remark(self, case: CostCase, row: CostRow) -> str:
        return f"{case.name}, {row.gradient}: {row.reason}" if row.reason else ""

    def _cases(
        self, gradients: tuple[str, ...], in_both_formats: tuple[str, ...]
    ) -> tuple[CostCase, ...]:
        protocol: dict[str, Any] = {"batch_size": self.batch_size, "precision": self.precision}
        found = []
        for network, method, n_steps in product(self.networks, self.methods, self.n_steps):
            experiment = partial(Experiment, network, method=method, n_steps=n_steps, **protocol)
            found.append(self._case(experiment, gradients, in_both_formats))
        return tuple(dict.fromkeys(found))

    def _case(
        self,
        experiment: Callable[[str], Experiment],
        gradients: tuple[str, ...],
        in_both_formats: tuple[str, ...],
    ) -> CostCase:
        """experiment: makes the experiment of a gradient method."""
        chosen: list[Experiment] = []
        refused: dict[str, str] = {}
        for gradient in gradients:
            try:
                chosen.append(experiment(gradient))
            except Exception as error:  # a peer's check runs foreign code
                if not is_peer(gradient):
                    raise
                GRADIENTS.resolve(gradient)  # a peer that does not exist is bad usage
                refused[gradient] = reason(error)
        if any(one.is_baseline for one in chosen):
            raise ValueError(
                f"a baseline has no ODE blocks: leave it out with the suite {self.name}"
            )
        is_in_both = any(one.gradient in in_both_formats for one in chosen)
        variants = [
            Variant(one, memory_format)
            for one in dict.fromkeys((experiment("backprop"), *chosen))
            for memory_format in (CHANNELS_LAST, CONTIGUOUS)
            if memory_format == CHANNELS_LAST or (is_in_both and one.gradient in in_both_formats)
        ]
        return CostCase(tuple(variants), self.repeats, tuple(refused.items()))

    def runner(self, dataset: Dataset, device: torch.device) -> CostRunner:
        check_precision(self.precision, device)
        prepare(device, self.precision)
        return CostRunner(Workload.of_steps(self.name, dataset, device, self.batch_size))
