"""The suite `cost`: seconds and peak bytes of a training step, all variants in turn."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import torch

from bench.context import Workload
from bench.data import Dataset
from bench.environment import CHANNELS_LAST, CONTIGUOUS, check_precision, prepare
from bench.experiment import Experiment
from bench.records import CostRow
from bench.studies.cost.cases import CostCase, Refused, Variant
from bench.studies.cost.laboratory import CostLaboratory
from bench.studies.gradients import FOUR_NETWORKS
from bench.studies.peers import is_peer, reason
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
"""What is not a gradient method of ours; see bench/peers/."""

IN_BOTH_LAYOUTS = ("backprop", "node", *TORCH_PEERS)


@dataclass(frozen=True)
class CostSuite:
    """Every network × method × Nt, and in each every gradient method in channels-last; those of
    IN_BOTH_LAYOUTS contiguous as well, since others run so. On CUDA those that can be captured as
    CUDA graphs run both ways.

    repeats: rounds. The check_ fields are what is compared with the reference.
    """

    name: str
    description: str
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
    figures: tuple[str, ...] = ("cost_memory", "cost_table")

    row: ClassVar[type[CostRow]] = CostRow
    key: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "network": ("networks",),
        "method": ("methods",),
        "Nt": ("n_steps",),
        "gradient": ("gradients", "check_gradients"),
        "batch_size": ("batch_size",),
        "precision": ("precision",),
    }

    def replaced(self, **overrides: Any) -> "CostSuite":
        """This suite with other values."""
        return replace(self, **overrides)

    def cases(self) -> tuple[CostCase, ...]:
        """All cases. Raises ValueError, saying what to do, for what cannot be used."""
        return self._cases(self.gradients)

    def check_cases(self) -> tuple[CostCase, ...]:
        """The fixed set of the gate."""
        return self._cases(self.check_gradients)

    def _cases(self, gradients: tuple[str, ...]) -> tuple[CostCase, ...]:
        found = (
            self._case(network, method, n_steps, gradients)
            for network, method, n_steps in product(self.networks, self.methods, self.n_steps)
        )
        return tuple(dict.fromkeys(found))

    def _case(
        self, network: str, method: str, n_steps: int, gradients: tuple[str, ...]
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
            except Exception as error:  # a peer's check runs somebody's code
                if not is_peer(gradient):
                    raise
                GRADIENTS.resolve(gradient)  # one that is not there at all is bad usage
                refused.append(Refused(gradient, reason(error)))
        if any(one.is_baseline for one in chosen):
            raise ValueError(
                f"a baseline has no ODE blocks: leave it out with the suite {self.name}"
            )
        is_in_both = any(one.gradient in IN_BOTH_LAYOUTS for one in chosen)
        variants = [
            Variant(one, layout)
            for one in dict.fromkeys((experiment("backprop"), *chosen))
            for layout in (CHANNELS_LAST, CONTIGUOUS)
            if layout == CHANNELS_LAST or (is_in_both and one.gradient in IN_BOTH_LAYOUTS)
        ]
        return CostCase(tuple(variants), self.repeats, tuple(dict.fromkeys(refused)))

    def laboratory(self, dataset: Dataset, device: torch.device) -> "CostLaboratory":
        """Raises UsageError when the data has fewer images than the batch."""
        check_precision(self.precision, device)
        prepare(device, self.precision)
        return CostLaboratory(Workload.of_steps(self.name, dataset, device, self.batch_size))
