"""The study `memory`: peak memory of one training step, for every gradient method."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch

import models
from bench.context import Workload
from bench.data import Dataset
from bench.experiment import Experiment
from bench.instruments import memory
from bench.records import MemoryRow
from bench.studies.gradients import ALL_GRADIENTS, FIXED_STEP_GRADIENTS
from bench.studies.regression import Comparison
from bench.studies.study import FOUR_NETWORKS, Runner, Study
from bench.training.measured_step import MeasuredStep

CHAIN = "models.resnet:CHAIN:blocks="
"""ResNet-4 with this number of ODE blocks instead of one."""


class MemoryComparison(Comparison[MemoryRow]):
    """Peak memory on the CPU and numbers of evaluations are exact counts: the reference's.

    CUDA's allocator rounds, so that its peak may be 1% higher or lower.
    """

    experiment_key = ("network", "method", "n_steps", "gradient", "batch_size")

    def problem(self, row: MemoryRow, reference: MemoryRow) -> str | None:
        evaluations = (row.nfe_forward, row.nfe_backward)
        if evaluations != (reference.nfe_forward, reference.nfe_backward):
            return f"evaluations were {reference.nfe_forward} + {reference.nfe_backward}"
        difference = row.peak_bytes - reference.peak_bytes
        allowed = 0.01 * reference.peak_bytes if row.device == "cuda" else 0
        if abs(difference) <= allowed:
            return None
        return (
            f"was {reference.peak_bytes:,} bytes: {difference:+,}, "
            f"{difference / row.state_bytes:+.2f} states"
        )

    def describe(self, row: MemoryRow) -> dict[str, str]:
        return {
            "network": row.network,
            "scheme": f"{row.method}, Nt {row.n_steps}",
            "gradient": row.gradient,
            "peak": f"{row.peak_bytes:,} bytes",
            "evaluations": f"{row.nfe_forward} + {row.nfe_backward}",
        }


@dataclass(frozen=True)
class MemoryStudy(Study):
    """Every network × method × Nt × gradient method; then anode-revolve with m = 1 … revolved_steps
    on the network `revolved`.

    The check_ fields choose the cases of the regression check.
    """

    networks: tuple[str, ...] = (*FOUR_NETWORKS, *(f"{CHAIN}{blocks}" for blocks in (2, 4, 8)))
    methods: tuple[str, ...] = ("euler", "rk2")
    n_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    gradients: tuple[str, ...] = ALL_GRADIENTS
    batch_size: int = 8
    revolved: str = "resnet4"
    revolved_steps: int = 32
    check_networks: tuple[str, ...] = (*FOUR_NETWORKS, f"{CHAIN}3")
    check_gradients: tuple[str, ...] = FIXED_STEP_GRADIENTS
    check_n_steps: tuple[int, ...] = (1, 3)
    check_batch_size: int = 8

    row = MemoryRow
    key = ("network", "method", "n_steps", "gradient", "batch_size")
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "network": ("networks", "check_networks"),
        "method": ("methods",),
        "Nt": ("n_steps", "check_n_steps"),
        "gradient": ("gradients", "check_gradients"),
        "batch_size": ("batch_size", "check_batch_size"),
    }
    comparison = MemoryComparison()

    def cases(self) -> tuple[Experiment, ...]:
        found = _steps(self.networks, self.methods, self.n_steps, self.gradients, self.batch_size)
        if self.revolved in self.networks and "anode-revolve" in self.gradients:
            every_m = tuple(f"anode-revolve:m={m}" for m in range(1, self.revolved_steps + 1))
            found += _steps(
                *((self.revolved,), self.methods, (self.revolved_steps,)),
                *((*self.gradients, *every_m), self.batch_size),
            )
        return tuple(dict.fromkeys(found))

    def check_cases(self) -> tuple[Experiment, ...]:
        schemes = (self.check_networks, self.methods, self.check_n_steps, self.check_gradients)
        return tuple(dict.fromkeys(_steps(*schemes, self.check_batch_size)))

    def runner(self, dataset: Dataset, device: torch.device) -> "MemoryRunner":
        return MemoryRunner(Workload.of_steps(self.name, dataset, device, self.batch_size))


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


class MemoryRunner(Runner):
    """Measures the training step of an experiment on the first images of its data."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: Experiment) -> list[MemoryRow]:
        """One row, of the second step: the first one allocates the optimiser's state."""
        step = MeasuredStep(self._workload, case, self._workload.batch_size(case))
        step()
        resources = memory.resources(step)
        with models.block_inputs(step.network) as inputs, torch.no_grad():
            step.network(step.images)
        states = [z.nbytes for _, z in inputs]
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
                **resources,
            )
        ]
