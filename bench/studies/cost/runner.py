"""Measure the training steps of the variants of one case, in turn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.context import Needs, Stepper, Workload
from bench.instruments import gradient_error, timing
from bench.instruments.timing import Seconds
from bench.records import CostRow
from bench.studies.cost.cases import CostCase, Variant
from bench.studies.peers import (
    HALF,
    SINGLE,
    Reasons,
    is_peer,
    method_of,
    verify,
    verify_output,
)
from bench.studies.study import Runner
from bench.training.clock import WHOLE

WARM_UP_STEPS = 2
COMPILE = "compile"


class CostRunner(Runner):
    """Measures the variants of a case on the first images of its data."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: CostCase) -> list[CostRow]:
        """The rows of all variants: memory and evaluations first, then the times in turn.

        A peer that fails gets a row that says why; an error of a method of ours is raised.
        """
        reasons: Reasons[Variant] = Reasons(self._workload.device)
        steppers: dict[Variant, Stepper] = {}
        checked: dict[Variant, Checked] = {}
        variants = self._in_both_executions(case.variants)
        for variant in variants:
            with reasons.kept(variant, variant.experiment.gradient):
                stepper = self._stepper(variant)
                if variant.is_captured and not stepper.is_captured:
                    if stepper.capture_failure:
                        reasons[variant] = stepper.capture_failure
                    continue
                checked[variant] = self._check(variant, stepper)
                steppers[variant] = stepper
        taken = self._timed(steppers, case.repeats, reasons)
        rows: list[CostRow] = []
        for variant in variants:
            if variant in reasons:
                rows.append(self._unmeasured(variant, reasons[variant]))
            elif variant in taken:
                base = taken.get(_reference(variant, variants))
                rows += self._rows(variant, taken[variant], base, checked[variant])
        for gradient, reason in case.refused:
            like = self._unmeasured(case.variants[0], reason)
            rows.append(replace(like, gradient=gradient))
        return rows

    def _timed(
        self, steppers: Mapping[Variant, Stepper], repeats: int, reasons: Reasons[Variant]
    ) -> dict[Variant, dict[str, np.ndarray]]:
        """The times. When a peer fails, the measurement starts again without it."""

        def watched(variant: Variant, stepper: Stepper) -> Callable[[timing.Passed], object]:
            def step(passed: timing.Passed) -> None:
                with reasons.kept(variant, variant.experiment.gradient):
                    stepper(passed)
                if variant in reasons:
                    raise _AgainError

            return step

        while True:
            left = {v: watched(v, s) for v, s in steppers.items() if v not in reasons}
            try:
                return timing.interleaved(left, self._workload.device, repeats)
            except _AgainError:
                continue

    def _stepper(self, variant: Variant) -> Stepper:
        size = self._workload.batch_size(variant.experiment)
        return Stepper(
            self._workload, variant.experiment, size, variant.layout, variant.is_captured
        )

    def _in_both_executions(self, variants: Sequence[Variant]) -> tuple[Variant, ...]:
        """On CUDA each variant twice: eager, and captured as a CUDA graph."""
        if self._workload.device.type != "cuda":
            return tuple(variants)
        return (*variants, *(variant._replace(is_captured=True) for variant in variants))

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
        return Checked(error.error, compile_seconds, stepper.needs())

    def _rows(
        self,
        variant: Variant,
        taken: Mapping[str, np.ndarray],
        reference: Mapping[str, np.ndarray] | None,
        checked: "Checked",
    ) -> Iterator[CostRow]:
        needs = checked.needs._asdict() if checked.needs else {}
        row = replace(self._unmeasured(variant), gradient_error=checked.gradient_error, **needs)
        for phase, seconds in taken.items():
            found = Seconds.of(seconds)
            timed = replace(
                row,
                phase=phase,
                seconds=found.median,
                low=found.low,
                high=found.high,
                repeats=found.repeats,
            )
            if reference is not None:
                ratio = Seconds.of(seconds / reference[WHOLE])
                timed = replace(
                    timed, ratio=ratio.median, ratio_low=ratio.low, ratio_high=ratio.high
                )
            yield timed
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
    """Measurements of a variant before it is timed. compile_seconds is None where nothing is
    compiled, needs where the work is done outside PyTorch."""

    gradient_error: float
    compile_seconds: float | None = None
    needs: Needs | None = None


class _AgainError(Exception):
    """A peer failed while it was timed."""


def _reference(variant: Variant, variants: Sequence[Variant]) -> Variant:
    """backprop in the variant's layout and execution."""
    return next(
        other
        for other in variants
        if other.experiment.gradient == "backprop" and other[1:] == variant[1:]
    )
