"""Measure the training steps of the variants of one case, in turn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bench.context import Workload
from bench.instruments import gradient_error, memory, timing
from bench.instruments.timing import Seconds
from bench.records import CostRow
from bench.studies.cost.cases import CostCase, Variant
from bench.studies.peers import HALF, SINGLE, Reasons, is_peer, method_of, verify, verify_output
from bench.studies.study import Runner
from bench.training.clock import TOTAL
from bench.training.measured_step import MeasuredStep

WARM_UP_STEPS = 2
COMPILE = "compile"

Times = Mapping[str, np.ndarray]
"""Phase → seconds (rounds,)."""


class CostRunner(Runner):
    """Measures the variants of a case on the first images of its data."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def measure(self, case: CostCase) -> list[CostRow]:
        """The rows of all variants: memory and evaluations first, then the times in turn.

        A peer that fails gets a row that says why; an error of our own methods is raised.
        """
        reasons: Reasons[Variant] = Reasons(self._workload.device)
        steps: dict[Variant, MeasuredStep] = {}
        checked: dict[Variant, list[CostRow]] = {}
        variants = [*case.variants]
        if self._workload.device.type == "cuda":  # each is also captured as a CUDA graph
            variants += [variant._replace(is_captured=True) for variant in case.variants]
        for variant in variants:
            with reasons.kept(variant, variant.experiment.gradient):
                step = self._step(variant)
                if step.capture_failure:
                    reasons[variant] = step.capture_failure
                elif step.is_captured == variant.is_captured:
                    checked[variant] = self._check(variant, step)
                    steps[variant] = step
        times = self._times(steps, case.repeats, reasons)
        rows: list[CostRow] = []
        for variant in variants:
            if variant in reasons:
                rows.append(self._row(variant, reason=reasons[variant]))
            elif variant in times:
                base = next(
                    times.get(other)
                    for other in variants
                    if other.experiment.gradient == "backprop" and other[1:] == variant[1:]
                )
                row, *compiled = checked[variant]
                rows += [*_timed(row, times[variant], base), *compiled]
        for gradient, reason in case.refused:
            row = self._row(case.variants[0], reason=reason)
            rows.append(replace(row, gradient=gradient))
        return rows

    def _step(self, variant: Variant) -> MeasuredStep:
        size = self._workload.batch_size(variant.experiment)
        return MeasuredStep(
            self._workload, variant.experiment, size, variant.memory_format, variant.is_captured
        )

    def _times(
        self, steps: Mapping[Variant, MeasuredStep], repeats: int, reasons: Reasons[Variant]
    ) -> dict[Variant, dict[str, np.ndarray]]:
        """Time the steps. If a peer fails, the measurement starts again without it."""

        def watched(variant: Variant, step: MeasuredStep) -> Callable[[timing.Passed], object]:
            def take(passed: timing.Passed) -> None:
                with reasons.kept(variant, variant.experiment.gradient):
                    step(passed)
                if variant in reasons:
                    raise _AgainError

            return take

        while True:
            left = {v: watched(v, step) for v, step in steps.items() if v not in reasons}
            try:
                return timing.interleaved(left, self._workload.device, repeats)
            except _AgainError:
                continue

    def _check(self, variant: Variant, step: MeasuredStep) -> list[CostRow]:
        """Warm up; return a row with all that is not timed, and one of the compilation, if any."""
        experiment, method = variant.experiment, method_of(variant.experiment)
        if is_peer(experiment.gradient):
            verify(self._workload, experiment, variant.memory_format)
        if hasattr(method, "forget"):  # what is compiled by now was compiled for the check
            method.forget()
        error = gradient_error.measure(step.network, step.images, step.labels)
        if is_peer(experiment.gradient):
            verify_output(error, HALF if experiment.precision == "bfloat16" else SINGLE)
        for _ in range(WARM_UP_STEPS):  # anode-auto makes its plan in the first
            step()
        compile_seconds = getattr(method, "compile_seconds", None)
        is_seen = not getattr(method, "outside_torch", False)
        resources = memory.resources(step) if is_seen else {}
        row = self._row(variant, gradient_error=error.error, **resources)
        if compile_seconds is None:
            return [row]
        seconds = dict.fromkeys(("seconds", "low", "high"), compile_seconds)
        return [row, replace(row, phase=COMPILE, repeats=1, **seconds)]

    def _row(self, variant: Variant, **measured: Any) -> CostRow:
        experiment = variant.experiment
        same = ("network", "method", "n_steps", "gradient", "precision")
        return CostRow(
            **{name: getattr(experiment, name) for name in same},
            batch_size=self._workload.batch_size(experiment),
            memory_format=variant.memory_format,
            execution="captured" if variant.is_captured else "eager",
            device=self._workload.device.type,
            phase=TOTAL,
            **measured,
        )


def _timed(row: CostRow, times: Times, reference: Times | None) -> Iterator[CostRow]:
    """A row for each phase. reference: the times of backprop in the same memory format."""
    for phase, seconds in times.items():
        found = Seconds.of(seconds)
        own: dict[str, Any] = {"seconds": found.median, "low": found.low, "high": found.high}
        if reference is not None:
            ratio = Seconds.of(seconds / reference[TOTAL])
            own |= {"ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high}
        yield replace(row, phase=phase, repeats=found.repeats, **own)


class _AgainError(Exception):
    """A peer failed while it was timed."""
