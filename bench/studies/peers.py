"""Somebody else's gradient methods: whether they do the work, and why not."""

import contextlib
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch

import solvers
from bench.context import Workload
from bench.experiment import Experiment
from bench.faults import first_line, free_memory, in_a_line, is_out_of_memory
from bench.instruments import gradient_error
from bench.instruments.gradient_error import GradientError
from bench.training.measured_step import MeasuredStep
from solvers import GRADIENTS

Variant = TypeVar("Variant", bound=Hashable)

DOUBLE = 1e-9
"""The largest relative distance, in float64, of a network's output from that with `backprop`, and
of its gradient from that of the method which a peer reproduces. Other libraries sum in another
order, which SqueezeNext turns into 6e-14; a wrong time or a step too many changes far more."""

SINGLE, HALF = 1e-3, 1e-1
"""The same of the output in float32, where SqueezeNext makes 3e-5 of the order of summation. The
gradient is not judged there: some ReLU has an argument so near 0 that its sign is rounding, and
SqueezeNext's gradient moves by 2e-2. Behind it the same of bfloat16, which has 8 bits."""

IMAGES = 4


class PeerError(Exception):
    """A peer cannot do the work; says why in one line."""


def is_peer(gradient: str) -> bool:
    """Whether a gradient method is somebody else's, package.module:Object."""
    return gradient.lower().partition(":")[0] not in GRADIENTS


def method_of(experiment: Experiment) -> Any:
    """The gradient method, which may have the attributes that bench/peers/__init__.py names."""
    return GRADIENTS.resolve(experiment.gradient)


def verify(workload: Workload, experiment: Experiment, layout: str) -> None:
    """Compare forward result and gradient with what they have to be, on a few images in float64.

    Does nothing for a method that does not say whose gradient it has. Raises PeerError where they
    differ.
    """
    reproduced = getattr(method_of(experiment), "reproduces", None)
    if reproduced is None:
        return
    stepper = MeasuredStep(workload, replace(experiment, precision="float32"), IMAGES, layout)
    given = (stepper.network.double(), stepper.images.double(), stepper.labels)
    found = gradient_error.observe(*given)
    verify_output(gradient_error.compare(found, gradient_error.reference(*given)), DOUBLE)
    try:
        solvers.check(experiment.method, experiment.n_steps, reproduced)
    except ValueError:  # ours cannot do the scheme, and there is nothing to compare with
        return
    distance = gradient_error.compare(found, gradient_error.reference(*given, reproduced)).error
    if not distance <= DOUBLE:
        raise PeerError(f"its gradient is not {reproduced}'s: {distance:.1e} off in float64")


def verify_output(error: GradientError, largest: float = SINGLE) -> None:
    """Raises PeerError where the network's output is not that with `backprop`."""
    if not error.output_error <= largest:  # which is so for nan as well
        raise PeerError(f"its forward result is not backprop's: {error.output_error:.1e} off")


class Reasons(dict[Variant, str]):
    """Variant → why it cannot do the work, of peers that cannot."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    @contextlib.contextmanager
    def kept(self, variant: Variant, gradient: str) -> Iterator[None]:
        """Keeps what goes wrong inside as the reason of this variant of a peer; what goes wrong
        with a method of ours is a defect, and is raised."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or not is_peer(gradient):
                raise
            self[variant] = reason(error)
            if is_out_of_memory(error):
                free_memory(self._device)


def reason(error: BaseException) -> str:
    """Why a peer cannot do the work, in a line."""
    said = first_line(error) if isinstance(error, ValueError | PeerError) else ""
    return said or in_a_line(error)
