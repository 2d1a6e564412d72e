"""The suite `memory`: what one training step needs at once, for every gradient method."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import torch

import models
from bench.context import Workload
from bench.data import Dataset
from bench.experiment import Experiment
from bench.instruments import memory
from bench.records import MemoryRow
from bench.studies.gradients import ALL_GRADIENTS, FOUR_NETWORKS, GATED_GRADIENTS
from bench.training.measured_step import MeasuredStep

CHAIN = "models.resnet:CHAIN:blocks="
"""ResNet-4, which has one ODE block, with so many of them."""


@dataclass(frozen=True)
class MemorySuite:
    """Every network × method × Nt × gradient method; then anode-revolve with m = 1 … revolved_steps
    on the network `revolved`.

    The check_ fields are the fixed set that is compared with the reference.
    """

    name: str
    description: str
    networks: tuple[str, ...] = (*FOUR_NETWORKS, *(f"{CHAIN}{blocks}" for blocks in (2, 4, 8)))
    methods: tuple[str, ...] = ("euler", "rk2")
    n_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    gradients: tuple[str, ...] = ALL_GRADIENTS
    batch_size: int = 8
    revolved: str = "resnet4"
    revolved_steps: int = 32
    check_networks: tuple[str, ...] = (*FOUR_NETWORKS, f"{CHAIN}3")
    check_gradients: tuple[str, ...] = GATED_GRADIENTS
    check_n_steps: tuple[int, ...] = (1, 3)
    check_batch_size: int = 8
    figures: tuple[str, ...] = ("memory_steps", "memory_blocks", "memory_tradeoff", "memory_laws")

    row: ClassVar[type[MemoryRow]] = MemoryRow
    key: ClassVar[tuple[str, ...]] = ("network", "method", "n_steps", "gradient", "batch_size")
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "network": ("networks", "check_networks"),
        "method": ("methods",),
        "Nt": ("n_steps", "check_n_steps"),
        "gradient": ("gradients", "check_gradients"),
        "batch_size": ("batch_size", "check_batch_size"),
    }

    def replaced(self, **overrides: Any) -> "MemorySuite":
        """This suite with other values."""
        return replace(self, **overrides)

    def cases(self) -> tuple[Experiment, ...]:
        """All cases, each once. Raises ValueError, saying what to do, for what cannot be used."""
        found = _steps(self.networks, self.methods, self.n_steps, self.gradients, self.batch_size)
        if self.revolved in self.networks and "anode-revolve" in self.gradients:
            every_m = tuple(f"anode-revolve:m={m}" for m in range(1, self.revolved_steps + 1))
            found += _steps(
                *((self.revolved,), self.methods, (self.revolved_steps,)),
                *((*self.gradients, *every_m), self.batch_size),
            )
        return tuple(dict.fromkeys(found))

    def check_cases(self) -> tuple[Experiment, ...]:
        """The fixed set of the gate."""
        schemes = (self.check_networks, self.methods, self.check_n_steps, self.check_gradients)
        return tuple(dict.fromkeys(_steps(*schemes, self.check_batch_size)))

    def laboratory(self, dataset: Dataset, device: torch.device) -> "MemoryLaboratory":
        """Raises UsageError when the data has fewer images than the batch."""
        return MemoryLaboratory(Workload.of_steps(self.name, dataset, device, self.batch_size))


def _steps(
    networks: tuple[str, ...],
    methods: tuple[str, ...],
    n_steps: tuple[int, ...],
    gradients: tuple[str, ...],
    batch_size: int,
) -> list[Experiment]:
    return [
        Experiment(network, gradient, method, steps, batch_size=batch_size)
        for network, method, steps, gradient in product(networks, methods, n_steps, gradients)
    ]


class MemoryLaboratory:
    """Measures the training step of an experiment, on its data's first images."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: Experiment) -> list[MemoryRow]:
        """One row, of the second step: the optimiser's own state is there before it."""
        step = MeasuredStep(self._workload, case, self._workload.batch_size(case))
        step()
        needs = memory.resources(step)
        states = _state_bytes(step)
        return [
            MemoryRow(
                network=case.network,
                n_blocks=len(states),
                method=case.method,
                n_steps=case.n_steps,
                gradient=case.gradient,
                batch_size=len(step.labels),
                device=self._workload.device.type,
                state_bytes=max(states),
                **needs._asdict(),
            )
        ]


def _state_bytes(step: MeasuredStep) -> list[int]:
    """The size of each ODE block's state."""
    with models.block_inputs(step.network) as inputs, torch.no_grad():
        step.network(step.images)
    return [z.nbytes for _, z in inputs]
