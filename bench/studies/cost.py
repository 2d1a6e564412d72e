"""The suite `cost`: seconds and peak bytes of a training step, all variants in turn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from bench import captured, cost, gradient_error, memory, precision
from bench.clock import WHOLE
from bench.cost import Seconds
from bench.data import Dataset
from bench.environment import prepare
from bench.experiment import Experiment
from bench.records import CostRow
from bench.studies.gradients import FOUR_NETWORKS
from bench.studies.peers import (
    HALF,
    SINGLE,
    Reasons,
    in_a_line,
    is_peer,
    method_of,
    verify,
    verify_output,
)
from bench.training import build_network
from bench.workload import Stepper, Workload
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

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
IN_BOTH_LAYOUTS = ("backprop", "node", *TORCH_PEERS)
WARM_UP_STEPS = 2
COMPILE = "compile"


class Variant(NamedTuple):
    experiment: Experiment
    layout: str
    is_captured: bool = False


class Refused(NamedTuple):
    """A peer that refuses the method or Nt, or is not installed."""

    gradient: str
    reason: str


@dataclass(frozen=True)
class CostCase:
    """The variants that take turns: those of one network, method and Nt."""

    variants: tuple[Variant, ...]
    repeats: int
    refused: tuple[Refused, ...] = ()

    @property
    def name(self) -> str:
        """The case in a few words."""
        first = self.variants[0].experiment
        return f"{first.network}, {first.method}, Nt {first.n_steps}"


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
        return tuple(
            self._case(network, method, n_steps, gradients)
            for network, method, n_steps in product(self.networks, self.methods, self.n_steps)
        )

    def _case(
        self, network: str, method: str, n_steps: int, gradients: tuple[str, ...]
    ) -> CostCase:
        variants: list[Variant] = []
        refused: list[Refused] = []
        is_in_both = set(gradients) & set(IN_BOTH_LAYOUTS)
        for gradient in dict.fromkeys(("backprop", *gradients)):
            try:
                one = Experiment(
                    *(network, gradient, method, n_steps),
                    batch_size=self.batch_size,
                    precision=self.precision,
                )
            except ValueError as error:
                if not is_peer(gradient):
                    raise
                GRADIENTS.resolve(gradient)  # one that is not there at all is bad usage
                refused.append(Refused(gradient, in_a_line(error)))
                continue
            variants.append(Variant(one, CHANNELS_LAST))
            if is_in_both and gradient in IN_BOTH_LAYOUTS:
                variants.append(Variant(one, CONTIGUOUS))
        return CostCase(tuple(variants), self.repeats, tuple(refused))

    def laboratory(self, dataset: Dataset, device: torch.device) -> "CostLaboratory":
        """Raises UsageError when the data has fewer images than the batch."""
        precision.check(self.precision, device)
        prepare(self.precision)
        return CostLaboratory(Workload.of_steps(self.name, dataset, device, self.batch_size))


class CostLaboratory:
    """Measures the variants of a case, on its data's first images."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: CostCase) -> list[CostRow]:
        """The rows of all variants: first what is exact, then the times, round by round.

        A peer that cannot do the work, whatever happens to it, gets a row that says why; what
        goes wrong in a method of ours is raised.
        """
        reasons: Reasons[Variant] = Reasons(self._workload.device)
        steppers: dict[Variant, Stepper] = {}
        checked: dict[Variant, Checked] = {}
        variants = self._in_both_executions(case.variants)
        for variant in variants:
            with reasons.kept(variant, variant.experiment.gradient):
                stepper = self._stepper(variant)
                checked[variant] = self._check(variant, stepper)
                steppers[variant] = stepper
        taken = self._timed(steppers, case.repeats, reasons)
        rows: list[CostRow] = []
        for variant in variants:
            if variant in reasons:
                rows.append(self._unmeasured(variant, reasons[variant]))
            else:
                base = taken[_reference(variant, variants)]
                rows += self._rows(variant, taken[variant], base, checked[variant])
        for gradient, reason in case.refused:
            like = self._unmeasured(case.variants[0], reason)
            rows.append(replace(like, gradient=gradient))
        return rows

    def _timed(
        self, steppers: Mapping[Variant, Stepper], repeats: int, reasons: Reasons[Variant]
    ) -> dict[Variant, dict[str, np.ndarray]]:
        """The times; begun anew, without it, when a peer fails in the midst of them."""

        def watched(variant: Variant, stepper: Stepper) -> Callable[[cost.Passed], object]:
            def step(passed: cost.Passed) -> None:
                with reasons.kept(variant, variant.experiment.gradient):
                    stepper(passed)
                if variant in reasons:
                    raise _AgainError

            return step

        while True:
            left = {v: watched(v, s) for v, s in steppers.items() if v not in reasons}
            try:
                return cost.interleaved(left, self._workload.device, repeats)
            except _AgainError:
                continue

    def _stepper(self, variant: Variant) -> Stepper:
        size = self._workload.batch_size(variant.experiment)
        return Stepper(
            self._workload, variant.experiment, size, variant.layout, variant.is_captured
        )

    def _in_both_executions(self, variants: Sequence[Variant]) -> tuple[Variant, ...]:
        """These, and those of them that can be captured as CUDA graphs once more."""
        device = self._workload.device
        networks = {v: build_network(v.experiment, device) for v in variants}
        return (
            *variants,
            *(
                variant._replace(is_captured=True)
                for variant, network in networks.items()
                if captured.obstacle(network, device) is None
            ),
        )

    def _check(self, variant: Variant, stepper: Stepper) -> "Checked":
        method = method_of(variant.experiment)
        if is_peer(variant.experiment.gradient):
            verify(self._workload, variant.experiment, variant.layout)
        if hasattr(method, "forget"):  # what is compiled by now was compiled for the check
            method.forget()
        error = gradient_error.measure(stepper.network, stepper.images, stepper.labels)
        if is_peer(variant.experiment.gradient):
            verify_output(error, HALF if variant.experiment.precision == "bfloat16" else SINGLE)
        for _ in range(WARM_UP_STEPS):  # anode-auto makes its plan in the first
            stepper()
        compile_seconds = getattr(method, "compile_seconds", None)
        if getattr(method, "outside_torch", False):
            return Checked(error.error, compile_seconds)
        evaluations: list[tuple[int, int]] = []
        peak = memory.peak_bytes(
            lambda: evaluations.append(stepper.evaluations()), self._workload.device
        )
        ((forward, backward),) = evaluations
        return Checked(error.error, compile_seconds, peak, forward, backward)

    def _rows(
        self,
        variant: Variant,
        taken: Mapping[str, np.ndarray],
        reference: Mapping[str, np.ndarray],
        checked: "Checked",
    ) -> Iterator[CostRow]:
        row = self._unmeasured(variant)
        row = replace(
            row,
            peak_bytes=checked.peak_bytes,
            nfe_forward=checked.nfe_forward,
            nfe_backward=checked.nfe_backward,
            gradient_error=checked.gradient_error,
        )
        for phase, seconds in taken.items():
            found = Seconds.of(seconds)
            ratio = Seconds.of(seconds / reference[WHOLE])
            yield replace(
                row,
                phase=phase,
                seconds=found.median,
                low=found.low,
                high=found.high,
                ratio=ratio.median,
                ratio_low=ratio.low,
                ratio_high=ratio.high,
                repeats=found.repeats,
            )
        if checked.compile_seconds is not None:
            once = checked.compile_seconds
            yield replace(row, phase=COMPILE, seconds=once, low=once, high=once, repeats=1)

    def _unmeasured(self, variant: Variant, reason: str = "") -> CostRow:
        experiment = variant.experiment
        return CostRow(
            network=experiment.network,
            method=experiment.method,
            n_steps=experiment.n_steps,
            gradient=experiment.gradient,
            batch_size=self._workload.batch_size(experiment),
            layout=variant.layout,
            precision=experiment.precision,
            execution="captured" if variant.is_captured else "eager",
            device=self._workload.device.type,
            phase=WHOLE,
            reason=reason,
        )


@dataclass(frozen=True)
class Checked:
    """What is known of a variant before it is timed. compile_seconds is None where nothing is
    compiled, the numbers behind it where our instruments do not see them."""

    gradient_error: float
    compile_seconds: float | None = None
    peak_bytes: int | None = None
    nfe_forward: int | None = None
    nfe_backward: int | None = None


class _AgainError(Exception):
    """A peer failed while it was timed."""


def _reference(variant: Variant, variants: Sequence[Variant]) -> Variant:
    """backprop in the variant's layout and execution."""
    return next(
        other
        for other in variants
        if other.experiment.gradient == "backprop" and other[1:] == variant[1:]
    )
