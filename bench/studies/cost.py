"""The suite `cost`: seconds and peak bytes of a training step, all variants in turn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from bench import cost, gradient_error, memory
from bench.clock import WHOLE
from bench.cost import Seconds
from bench.data import Dataset
from bench.experiment import Experiment
from bench.records import CostRow
from bench.studies.gradients import FOUR_NETWORKS
from bench.workload import Stepper, Workload

PEERS = (
    "bench.peers.original:ORIGINAL",
    "bench.peers.torch_checkpoint:BLOCK",
    "bench.peers.torch_checkpoint:STEPS",
)
"""What is not a gradient method of ours; see bench/peers/."""

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
IN_BOTH_LAYOUTS = ("backprop", "node", *PEERS)
WARM_UP_STEPS = 2


class Variant(NamedTuple):
    experiment: Experiment
    layout: str


@dataclass(frozen=True)
class CostCase:
    """The variants that take turns: those of one network, method and Nt."""

    variants: tuple[Variant, ...]
    repeats: int

    @property
    def name(self) -> str:
        """The case in a few words."""
        first = self.variants[0].experiment
        return f"{first.network}, {first.method}, Nt {first.n_steps}"


@dataclass(frozen=True)
class CostSuite:
    """Every network × method × Nt, and in each every gradient method in channels-last; those of
    IN_BOTH_LAYOUTS contiguous as well, since others run so.

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
        return tuple(
            CostCase(tuple(self._variants(network, method, n_steps, gradients)), self.repeats)
            for network, method, n_steps in product(self.networks, self.methods, self.n_steps)
        )

    def _variants(
        self, network: str, method: str, n_steps: int, gradients: tuple[str, ...]
    ) -> Iterator[Variant]:
        for gradient in dict.fromkeys(("backprop", *gradients)):
            experiment = Experiment(network, gradient, method, n_steps, batch_size=self.batch_size)
            yield Variant(experiment, CHANNELS_LAST)
            in_both = gradient in IN_BOTH_LAYOUTS and set(gradients) & set(IN_BOTH_LAYOUTS)
            if in_both:
                yield Variant(experiment, CONTIGUOUS)

    def laboratory(self, dataset: Dataset, device: torch.device) -> "CostLaboratory":
        """Raises UsageError when the data has fewer images than the batch."""
        return CostLaboratory(Workload.of_steps(self.name, dataset, device, self.batch_size))


class CostLaboratory:
    """Measures the variants of a case, on its data's first images."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: CostCase) -> list[CostRow]:
        """The rows of all variants: first what is exact, then the times, round by round."""
        steppers = {v: self._stepper(v) for v in case.variants}
        checked = {v: self._check(stepper) for v, stepper in steppers.items()}
        taken = cost.interleaved(steppers, self._workload.device, case.repeats)
        return [
            row
            for variant in case.variants
            for row in self._rows(
                variant, taken[variant], taken[_reference(variant, case)], checked[variant]
            )
        ]

    def _stepper(self, variant: Variant) -> Stepper:
        size = self._workload.batch_size(variant.experiment)
        return Stepper(self._workload, variant.experiment, size, variant.layout)

    def _check(self, stepper: Stepper) -> dict[str, Any]:
        error = gradient_error.measure(stepper.network, stepper.images, stepper.labels).error
        for _ in range(WARM_UP_STEPS):  # anode-auto makes its plan in the first
            stepper()
        evaluations: list[tuple[int, int]] = []
        peak = memory.peak_bytes(
            lambda: evaluations.append(stepper.evaluations()), self._workload.device
        )
        ((forward, backward),) = evaluations
        return {
            "peak_bytes": peak,
            "nfe_forward": forward,
            "nfe_backward": backward,
            "gradient_error": error,
        }

    def _rows(
        self,
        variant: Variant,
        taken: Mapping[str, np.ndarray],
        reference: Mapping[str, np.ndarray],
        checked: Mapping[str, Any],
    ) -> Iterator[CostRow]:
        experiment = variant.experiment
        for phase, seconds in taken.items():
            found = Seconds.of(seconds)
            ratio = Seconds.of(seconds / reference[WHOLE])
            yield CostRow(
                network=experiment.network,
                method=experiment.method,
                n_steps=experiment.n_steps,
                gradient=experiment.gradient,
                batch_size=self._workload.batch_size(experiment),
                layout=variant.layout,
                precision="float32",
                device=self._workload.device.type,
                phase=phase,
                seconds=found.median,
                low=found.low,
                high=found.high,
                ratio=ratio.median,
                ratio_low=ratio.low,
                ratio_high=ratio.high,
                repeats=found.repeats,
                **checked,
            )


def _reference(variant: Variant, case: CostCase) -> Variant:
    """backprop in the variant's layout."""
    return next(
        other
        for other in case.variants
        if other.experiment.gradient == "backprop" and other.layout == variant.layout
    )
