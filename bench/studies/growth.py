"""The study `growth`: how a training step's time and memory grow with Nt, batch size and width."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Any, ClassVar

import numpy as np
import torch

import models
from bench.context import Workload
from bench.data import Dataset, DeviceData, train_batches
from bench.errors import free_memory, is_out_of_memory
from bench.experiment import Experiment
from bench.instruments import memory, timing
from bench.instruments.timing import Passed, Seconds
from bench.records import GrowthRow
from bench.studies.study import OPTIONS, Runner, Study
from bench.training.clock import TOTAL
from bench.training.measured_step import MeasuredStep

NT, BATCH_SIZE, WIDTH = "Nt", "batch size", "width"
WIDE = "models.resnet:CHAIN:width="
"""ResNet-4 with this number of channels."""

DATA, FIXED = "data", "reference step"
"""Names of what takes turns with the measured steps: making a batch, and the reference step."""

REFERENCE_STEP = Experiment("resnet4", "backprop", "rk2", 2, batch_size=64)
"""A step that is timed in every case: it shows how fast the machine was at each point of a sweep,
which are measured minutes apart."""


@dataclass(frozen=True)
class GrowthCase:
    """The gradient methods that are measured in turn at one point of a sweep.

    repeats: rounds, or fewer if these would take longer than `seconds`.
    """

    sweep: str
    network: str
    method: str
    n_steps: int
    batch_size: int
    experiments: tuple[Experiment, ...]
    repeats: int
    seconds: float

    @property
    def compared(self) -> str:
        return ",".join(experiment.gradient for experiment in self.experiments)

    @property
    def name(self) -> str:
        """The case in a few words."""
        return f"{self.network}, {self.method}, Nt {self.n_steps}, batch {self.batch_size}"


@dataclass(frozen=True)
class GrowthStudy(Study):
    """Every network × method with each Nt and with each batch size; ResNet-4 also with each width.

    The other fields are held fixed in a sweep. A case has `repeats` rounds, or fewer if these would
    take longer than `seconds`, but LEAST_REPEATS at least. On two idle CPU cores it takes six
    minutes; the largest steps, of 1024 images, need 2 GiB.
    """

    networks: tuple[str, ...] = ("resnet4",)
    methods: tuple[str, ...] = ("rk2",)
    gradients: tuple[str, ...] = (
        *("backprop", "anode", "anode-auto", "anode-steps", "anode-revolve", "anode-revolve:m=1"),
        *("reversible", "node"),
    )
    n_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    n_steps_batch_size: int = 8
    batch_sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    batch_sizes_n_steps: int = 2
    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    widths_batch_size: int = 32
    repeats: int = 15
    seconds: float = 15.0

    row = GrowthRow
    key = ("sweep", "network", "method", "n_steps", "batch_size", "compared")
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {**OPTIONS, "batch_size": ("batch_sizes",)}
    printed = ("growth.md",)

    def cases(self) -> tuple[GrowthCase, ...]:
        for option, sizes in (("--Nt", self.n_steps), ("--batch_size", self.batch_sizes)):
            if len(sizes) < 2:
                raise ValueError(
                    f"the suite {self.name} shows growth: give {option} two values or more"
                )
        schemes = product(self.networks, self.methods)
        return tuple(dict.fromkeys(case for scheme in schemes for case in self._cases(*scheme)))

    def _cases(self, network: str, method: str) -> Iterator[GrowthCase]:
        for n_steps in sorted(self.n_steps):
            yield self._case(NT, network, method, n_steps, self.n_steps_batch_size)
        for size in sorted(self.batch_sizes):
            yield self._case(BATCH_SIZE, network, method, self.batch_sizes_n_steps, size)
        if models.NETWORKS.canonical(network) != "resnet4":
            return
        for width in sorted(self.widths):
            wide, n_steps = f"{WIDE}{width}", self.batch_sizes_n_steps
            yield self._case(WIDTH, wide, method, n_steps, self.widths_batch_size)

    def _case(
        self, sweep: str, network: str, method: str, n_steps: int, batch_size: int
    ) -> GrowthCase:
        found = [
            Experiment(network, gradient, method, n_steps, batch_size=batch_size)
            for gradient in self.gradients
        ]
        if any(experiment.is_baseline for experiment in found):
            raise ValueError(f"a baseline has no Nt: leave it out with the suite {self.name}")
        where = (sweep, found[0].network, found[0].method, n_steps, batch_size)
        return GrowthCase(*where, tuple(dict.fromkeys(found)), self.repeats, self.seconds)

    def runner(self, dataset: Dataset, device: torch.device) -> "GrowthRunner":
        sizes = (*self.batch_sizes, self.n_steps_batch_size, self.widths_batch_size)
        return GrowthRunner(Workload.of_steps(self.name, dataset, device, max(sizes)))


LEAST_REPEATS = 5
"""Fewer repeats give no meaningful quartiles."""


class GrowthRunner(Runner):
    """Measures the gradient methods of a case in turn, and with them the making of a batch."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: GrowthCase) -> list[GrowthRow]:
        """One row per gradient method: memory and evaluations first, then the times in turn."""
        steps: dict[Experiment, MeasuredStep] = {}
        rows = {}
        for experiment in case.experiments:
            row = self._row(case, experiment)
            try:
                step = MeasuredStep(self._workload, experiment, case.batch_size)
                width = _width(step)
                rows[experiment] = replace(row, width=width, **memory.resources(step))
                steps[experiment] = step
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # The size at which a method no longer fits is a result; the others go on.
                rows[experiment] = replace(row, status="oom")
                free_memory(self._workload.device)
        for experiment, times in self._times(case, steps).items():
            rows[experiment] = replace(rows[experiment], **times)
        return list(rows.values())

    def _row(self, case: GrowthCase, experiment: Experiment) -> GrowthRow:
        return GrowthRow(
            **{name: getattr(case, name) for name in GrowthStudy.key},
            gradient=experiment.gradient,
            width=0,
            device=self._workload.device.type,
            status="ok",
        )

    def _times(
        self, case: GrowthCase, steps: Mapping[Experiment, MeasuredStep]
    ) -> dict[Experiment, dict[str, Any]]:
        device = self._workload.device
        runs: dict[Experiment | str, Callable[[Passed], object]] = dict(steps.items())
        runs[DATA] = _batch_maker(self._workload, case.batch_size)
        runs[FIXED] = MeasuredStep(self._workload, REFERENCE_STEP, REFERENCE_STEP.batch_size)
        once = timing.interleaved(runs, device, 1)
        round_seconds = sum(float(taken[TOTAL].sum()) for taken in once.values())
        affordable = int(case.seconds / round_seconds)
        taken = timing.interleaved(runs, device, min(case.repeats, max(LEAST_REPEATS, affordable)))
        whole = {name: phases[TOTAL] for name, phases in taken.items()}
        return {
            experiment: _row_times(whole[experiment], whole[DATA], whole[FIXED])
            for experiment in steps
        }


def _row_times(step: np.ndarray, data: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """The columns of a row made from the seconds (repeats,) of its step, of making a batch and of
    the reference step."""
    relative, share = Seconds.of(step / reference), Seconds.of(data / step)
    return {
        "seconds": Seconds.of(step).median,
        "reference_seconds": Seconds.of(reference).median,
        **{"relative": relative.median, "low": relative.low, "high": relative.high},
        **{"data_seconds": Seconds.of(data).median, "data_share": share.median},
        **{"data_share_low": share.low, "data_share_high": share.high},
        "repeats": len(step),
    }


def _width(step: MeasuredStep) -> int:
    """The number of channels of an ODE block's widest state. Takes the first step, in which
    anode-auto makes its plan and the optimiser its state."""
    with models.block_inputs(step.network) as inputs:
        step()
    return max(z.shape[1] for _, z in inputs)


def _batch_maker(workload: Workload, size: int) -> Callable[[Passed], object]:
    """A function that makes the next augmented batch of this size, epoch after epoch."""
    available = len(workload.dataset.train_labels)
    whole = workload.dataset.subset(available - available % size, 1)
    data = DeviceData.of(whole, workload.device)
    batches = (
        batch
        for epoch in count(1)
        for batch in train_batches(data, seed=0, epoch=epoch, batch_size=size)
    )
    return lambda passed: next(batches)
