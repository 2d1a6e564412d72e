"""Verify gradient methods of other libraries, and record why one cannot be measured."""

import contextlib
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch

import solvers
from bench.context import Workload
from bench.errors import first_line, free_memory, in_a_line, is_out_of_memory
from bench.experiment import Experiment
from bench.instruments import gradient_error
from bench.instruments.gradient_error import GradientError
from bench.training.measured_step import MeasuredStep
from solvers import GRADIENTS

Variant = TypeVar("Variant", bound=Hashable)

DOUBLE = 1e-9
"""Largest relative distance, in float64, of a network's output from that with `backprop`, and of
its gradient from that of the method which a peer reproduces. Other libraries sum in another order,
which SqueezeNext amplifies to 6e-14; a wrong time or an extra step changes far more."""

SINGLE, HALF = 1e-3, 1e-1
"""Largest relative distances of the output in float32, where SqueezeNext amplifies the order of
summation to 3e-5, and in bfloat16, which has 8 bits. Gradients are not compared there: rounding
decides the sign of some ReLU's argument, which moves SqueezeNext's gradient by 2e-2."""

IMAGES = 4


class PeerError(Exception):
    """A peer cannot be measured; the message says why in one line."""


def is_peer(gradient: str) -> bool:
    """Return whether a gradient method is another library's, package.module:Object."""
    return gradient.lower().partition(":")[0] not in GRADIENTS


def method_of(experiment: Experiment) -> Any:
    """The gradient method, which may have the attributes listed in bench/peers/__init__.py."""
    return GRADIENTS.resolve(experiment.gradient)


def verify(workload: Workload, experiment: Experiment, memory_format: str) -> None:
    """Compare output and gradient with those of the method that the peer reproduces.

    On a few images in float64. Does nothing for a peer that does not state which method it
    reproduces. Raises PeerError where they differ.
    """
    reproduced = getattr(method_of(experiment), "reproduces", None)
    if reproduced is None:
        return
    single = replace(experiment, precision="float32")
    step = MeasuredStep(workload, single, IMAGES, memory_format)
    given = (step.network.double(), step.images.double(), step.labels)
    found = gradient_error.observe(*given)
    verify_output(gradient_error.compare(found, gradient_error.reference(*given)), DOUBLE)
    try:
        solvers.check(experiment.method, experiment.n_steps, reproduced)
    except ValueError:  # ours does not have the scheme: nothing to compare with
        return
    distance = gradient_error.compare(found, gradient_error.reference(*given, reproduced)).error
    if not distance <= DOUBLE:
        raise PeerError(f"its gradient is not {reproduced}'s: {distance:.1e} off in float64")


def verify_output(error: GradientError, largest: float = SINGLE) -> None:
    """Raise PeerError unless the network's output is that of `backprop`."""
    if not error.output_error <= largest:  # which is so for nan as well
        raise PeerError(f"its forward result is not backprop's: {error.output_error:.1e} off")


class Reasons(dict[Variant, str]):
    """Variant of a peer → why it cannot be measured."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    @contextlib.contextmanager
    def kept(self, variant: Variant, gradient: str) -> Iterator[None]:
        """Store an error of a peer as the reason for this variant. An error of our own methods is a
        defect, and is raised."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or not is_peer(gradient):
                raise
            self[variant] = reason(error)
            if is_out_of_memory(error):
                free_memory(self._device)


def reason(error: BaseException) -> str:
    """The reason why a peer cannot be measured, in one line."""
    said = first_line(error) if isinstance(error, ValueError | PeerError) else ""
    return said or in_a_line(error)
