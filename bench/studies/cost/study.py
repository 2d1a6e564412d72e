"""The study `cost`: seconds and peak bytes of a training step, all variants in turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch

from bench import precision
from bench.context import Workload
from bench.data import Dataset
from bench.environment import prepare
from bench.experiment import Experiment
from bench.layout import CHANNELS_LAST, CONTIGUOUS
from bench.records import CostRow
from bench.studies.cost.cases import CostCase, Refused, Variant
from bench.studies.cost.comparison import CostComparison
from bench.studies.cost.runner import CostRunner
from bench.studies.peers import is_peer, reason
from bench.studies.study import FOUR_NETWORKS, Study
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

IN_BOTH_LAYOUTS = ("backprop", "anode", "anode-auto", "node", *TORCH_PEERS)
CHECKED_IN_BOTH_LAYOUTS = ("backprop", "node")


@dataclass(frozen=True)
class CostStudy(Study):
    """Every network × method × Nt, with every gradient method in channels-last; those of
    IN_BOTH_LAYOUTS are measured contiguous as well, the usual format of other code. On CUDA, steps
    that can be captured as CUDA graphs are measured both ways.

    repeats: rounds. check_gradients: those of the regression check.
    """

    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("rk2",)
    n_steps: tuple[int, ...] = (2,)
    gradients: tuple[str, ...] = (
        *("backprop", "anode", "anode-auto", "anode-steps", "anode-revolve", "reversible"),
        *("node", "backprop-torchdiffeq", *PEERS),
    )
    batch_size: int = 64
    precision: str = "float32"
    repeats: int = 15
    check_gradients: tuple[str, ...] = ("anode", "anode-auto", "node")

    row: ClassVar[type[CostRow]] = CostRow
    figures: ClassVar[tuple[str, ...]] = ("cost_memory", "cost_table")
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "network": ("networks",),
        "method": ("methods",),
        "Nt": ("n_steps",),
        "gradient": ("gradients", "check_gradients"),
        "batch_size": ("batch_size",),
        "precision": ("precision",),
    }
    comparison: ClassVar[CostComparison] = CostComparison()

    def cases(self) -> tuple[CostCase, ...]:
        return self._cases(self.gradients, IN_BOTH_LAYOUTS)

    def check_cases(self) -> tuple[CostCase, ...]:
        return self._cases(self.check_gradients, CHECKED_IN_BOTH_LAYOUTS)

    def remark(self, case: CostCase, row: CostRow) -> str:
        return f"{case.name}, {row.gradient}: {row.reason}" if row.reason else ""

    def _cases(
        self, gradients: tuple[str, ...], in_both_layouts: tuple[str, ...]
    ) -> tuple[CostCase, ...]:
        found = (
            self._case(network, method, n_steps, gradients, in_both_layouts)
            for network, method, n_steps in product(self.networks, self.methods, self.n_steps)
        )
        return tuple(dict.fromkeys(found))

    def _case(
        self,
        network: str,
        method: str,
        n_steps: int,
        gradients: tuple[str, ...],
        in_both_layouts: tuple[str, ...],
    ) -> CostCase:
        def experiment(gradient: str) -> Experiment:
            return Experiment(
                *(network, gradient, method, n_steps),
                batch_size=self.batch_size,
                precision=self.precision,
            )

        chosen: list[Experiment] = []
        refused: list[Refused] = []
        for gradient in gradients:
            try:
                chosen.append(experiment(gradient))
            except Exception as error:  # a peer's check runs foreign code
                if not is_peer(gradient):
                    raise
                GRADIENTS.resolve(gradient)  # a peer that does not exist is bad usage
                refused.append(Refused(gradient, reason(error)))
        if any(one.is_baseline for one in chosen):
            raise ValueError(
                f"a baseline has no ODE blocks: leave it out with the suite {self.name}"
            )
        is_in_both = any(one.gradient in in_both_layouts for one in chosen)
        variants = [
            Variant(one, layout)
            for one in dict.fromkeys((experiment("backprop"), *chosen))
            for layout in (CHANNELS_LAST, CONTIGUOUS)
            if layout == CHANNELS_LAST or (is_in_both and one.gradient in in_both_layouts)
        ]
        return CostCase(tuple(variants), self.repeats, tuple(dict.fromkeys(refused)))

    def runner(self, dataset: Dataset, device: torch.device) -> CostRunner:
        precision.check(self.precision, device)
        prepare(device, self.precision)
        return CostRunner(Workload.of_steps(self.name, dataset, device, self.batch_size))
