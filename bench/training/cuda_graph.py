"""Training steps that are captured as a CUDA graph and replayed without Python."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.errors import first_line, is_out_of_memory
from bench.training.host_reads import RecordHostReads, ReplayHostReads, Value
from models import ode_blocks
from solvers import GRADIENTS

EAGER_STEPS = 3
"""Steps before the capture. They allocate what is allocated once: the plan of anode-auto, momentum,
time grids, cuDNN's workspace."""

Result = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor], Result]
"""Takes images and labels; returns mean loss and number of correct predictions."""

Capture = Callable[[Callable[[], Result]], tuple[Callable[[], None], Result]]
"""Takes a computation; returns a function that repeats it, and the tensors of its result."""


def obstacle(network: nn.Module, device: torch.device) -> str | None:
    """Return why a network's training step cannot be captured on a device, or None."""
    if device.type != "cuda":
        return "only CUDA has graphs"
    for block in ode_blocks(network):
        gradient = GRADIENTS.resolve(block.gradient)
        if not getattr(gradient, "is_capturable", False):
            return f"the gradient method {gradient.name} does not say that it can be captured"
    return None


def reads_constants(network: nn.Module) -> bool:
    """Return whether the host reads constants from the device in a network's training step."""
    gradients = (GRADIENTS.resolve(block.gradient) for block in ode_blocks(network))
    return any(getattr(gradient, "reads_constants", False) for gradient in gradients)


class _Captured(NamedTuple):
    images: Tensor
    labels: Tensor
    learning_rates: tuple[float, ...]
    repeat: Callable[[], None]
    result: Result


class CapturedStep:
    """A training step that is captured as a CUDA graph and then replayed without Python.

    The first EAGER_STEPS steps run eagerly, as does a batch smaller than the captured one. The step
    is captured again for a larger batch, and for a new learning rate, a number in the graph. The
    next step overwrites the result tensors of the last one.

    A step stays eager, and `reason` says why, if it draws random numbers (a recomputed block
    restores the random state, which a graph cannot) or if the host reads values that differ
    between steps. reads_constants: the host reads constants, which are recorded for the capture.
    """

    def __init__(
        self,
        step: Step,
        optimizer: torch.optim.Optimizer,
        capture: Capture | None = None,
        *,
        reads_constants: bool = False,
    ) -> None:
        self.reason: str | None = None
        self._step = step
        self._optimizer = optimizer
        self._capture = capture or capture_graph
        self._reads_constants = reads_constants
        self._eager_steps = 0
        self._reads: list[Value] | None = None  # in the last of them
        self._side_stream: torch.cuda.Stream | None = None
        self._captured: _Captured | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> Result:
        if self.reason is None and self._eager_steps < EAGER_STEPS:
            self._eager_steps += 1
            return self._run_on_side_stream(images, labels)
        captured = self._captured_for(images, labels)
        if captured is None:
            return self._step(images, labels)
        captured.images.copy_(images)
        captured.labels.copy_(labels)
        captured.repeat()
        return captured.result

    def _captured_for(self, images: Tensor, labels: Tensor) -> _Captured | None:
        """The captured step for such a batch, captured again if needed; None: run it eagerly."""
        if self.reason is not None:
            return None
        rates = tuple(float(group["lr"]) for group in self._optimizer.param_groups)
        if self._captured is not None:
            size = len(self._captured.images)
            if len(images) < size:
                return None
            if len(images) == size and self._captured.learning_rates == rates:
                return self._captured
            self._captured = None  # free its memory for the next graph
        own = images.clone(), labels.clone()
        try:
            self._captured = _Captured(*own, rates, *self._capture(lambda: self._replay(*own)))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.reason = f"the capture failed: {first_line(error)}"
        return self._captured

    def _run_on_side_stream(self, images: Tensor, labels: Tensor) -> Result:
        """Run an eager step on a side stream, as PyTorch requires before a capture."""
        before = _random_states(images.device)
        if images.device.type != "cuda":
            result = self._record(images, labels)
        else:
            if self._side_stream is None:
                self._side_stream = torch.cuda.Stream(images.device)
            self._side_stream.wait_stream(torch.cuda.current_stream(images.device))
            with torch.cuda.stream(self._side_stream):
                result = self._record(images, labels)
            torch.cuda.current_stream(images.device).wait_stream(self._side_stream)
        if not all(map(torch.equal, before, _random_states(images.device))):
            self.reason = "the step draws random numbers"
        return result

    def _record(self, images: Tensor, labels: Tensor) -> Result:
        """Run a step and record the host's reads. The last two steps must read the same values."""
        if not self._reads_constants:
            return self._step(images, labels)
        with RecordHostReads(images.device) as recorded:
            result = self._step(images, labels)
        if self._eager_steps == EAGER_STEPS:
            if recorded.reads is None:
                self.reason = "the host reads a value that is not the same in every step"
            elif recorded.reads != self._reads:
                self.reason = "the host does not read the same values in every step"
        self._reads = recorded.reads
        return result

    def _replay(self, images: Tensor, labels: Tensor) -> Result:
        if not self._reads_constants:
            return self._step(images, labels)
        with ReplayHostReads(images.device, self._reads or []):
            return self._step(images, labels)


def _random_states(device: torch.device) -> list[Tensor]:
    """Random states of the host and, on CUDA, of the device."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def capture_graph(compute: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
    """Capture a computation as a CUDA graph, without running it.

    Raises the error of the computation; the device stays usable.
    """
    stream, pool = torch.cuda.current_stream(), torch.cuda.graph_pool_handle()
    graph = torch.cuda.CUDAGraph()
    cause: Exception | None = None
    try:
        with torch.cuda.graph(graph, pool=pool):
            try:
                result = compute()
            except Exception as error:
                cause = error
                raise
    except Exception as error:
        # PyTorch before 2.12 stays on the capture's stream, leaves its pool open, so that every
        # later capture fails, and hides the cause behind the error of the capture's end.
        torch.cuda.set_stream(stream)
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
        raise cause or error from None
    return graph.replay, result
