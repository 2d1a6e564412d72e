"""Training steps that a CUDA device repeats by itself."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.errors import first_line, is_out_of_memory
from bench.training.host_reads import Hearing, Telling, Value
from models import ode_blocks
from solvers import GRADIENTS

EAGER_STEPS = 3
"""So many steps run eagerly first: they make what is made once (the plan of anode-auto, momentum,
time grids, cuDNN's workspace), and are steps of the training like all others."""

Result = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor], Result]
"""Of images and labels; returns the mean loss and the number classified rightly."""

Capture = Callable[[Callable[[], Result]], tuple[Callable[[], None], Result]]
"""Of a computation; returns what repeats it, and where its result is after each repetition."""


def obstacle(network: nn.Module, device: torch.device) -> str | None:
    """Why a network's training step cannot be captured on a device, or None."""
    if device.type != "cuda":
        return "only CUDA has graphs"
    for block in ode_blocks(network):
        gradient = GRADIENTS.resolve(block.gradient)
        if not getattr(gradient, "is_capturable", False):
            return f"the gradient method {gradient.name} does not say that it can be captured"
    return None


def reads_constants(network: nn.Module) -> bool:
    """Whether the host reads constants of the device in a network's training step."""
    gradients = (GRADIENTS.resolve(block.gradient) for block in ode_blocks(network))
    return any(getattr(gradient, "reads_constants", False) for gradient in gradients)


class _Captured(NamedTuple):
    images: Tensor
    labels: Tensor
    learning_rates: tuple[float, ...]
    repeat: Callable[[], None]
    result: Result


class CapturedStep:
    """A training step that is recorded as a CUDA graph and then replayed, without Python.

    The first steps on the device run eagerly. A batch that is smaller than the recorded one runs
    eagerly as well: there is one an epoch. For a larger batch, and when the optimiser's learning
    rate changes, which the graph has in it as a number, the step is recorded again.

    reads_constants: the host reads constants in the step, which are remembered for the capture.

    Where the step draws random numbers it stays eager, since what runs a block again puts the
    random state back, which a graph cannot, and the host's would be in the graph as numbers; and so
    it does where the host reads values that are not the same in every step. `reason` says why.

    The result of a step is overwritten by the next.
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
        self._capture = capture or record
        self._reads_constants = reads_constants
        self._eager_steps = 0
        self._reads: list[Value] | None = None  # in the last of them
        self._aside: torch.cuda.Stream | None = None
        self._captured: _Captured | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> Result:
        if self.reason is None and self._eager_steps < EAGER_STEPS:
            self._eager_steps += 1
            return self._run_aside(images, labels)
        captured = self._captured_for(images, labels)
        if captured is None:
            return self._step(images, labels)
        captured.images.copy_(images)
        captured.labels.copy_(labels)
        captured.repeat()
        return captured.result

    def _captured_for(self, images: Tensor, labels: Tensor) -> _Captured | None:
        """The recorded step for such a batch, recorded anew where need be; None: run it eagerly."""
        if self.reason is not None:
            return None
        rates = tuple(float(group["lr"]) for group in self._optimizer.param_groups)
        if self._captured is not None:
            size = len(self._captured.images)
            if len(images) < size:
                return None
            if len(images) == size and self._captured.learning_rates == rates:
                return self._captured
            self._captured = None  # its memory serves the next
        own = images.clone(), labels.clone()
        try:
            self._captured = _Captured(*own, rates, *self._capture(lambda: self._tell(*own)))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.reason = f"the capture failed: {first_line(error)}"
        return self._captured

    def _run_aside(self, images: Tensor, labels: Tensor) -> Result:
        """An eager step, on a stream of its own as PyTorch asks for before a capture."""
        before = _random_states(images.device)
        if images.device.type != "cuda":
            result = self._hear(images, labels)
        else:
            if self._aside is None:
                self._aside = torch.cuda.Stream(images.device)
            self._aside.wait_stream(torch.cuda.current_stream(images.device))
            with torch.cuda.stream(self._aside):
                result = self._hear(images, labels)
            torch.cuda.current_stream(images.device).wait_stream(self._aside)
        if not all(map(torch.equal, before, _random_states(images.device))):
            self.reason = "the step draws random numbers"
        return result

    def _hear(self, images: Tensor, labels: Tensor) -> Result:
        """A step. The last before a capture must read what the one before it read."""
        if not self._reads_constants:
            return self._step(images, labels)
        with Hearing(images.device) as heard:
            result = self._step(images, labels)
        if self._eager_steps == EAGER_STEPS:
            if heard.reads is None:
                self.reason = "the host reads a value that is not the same in every step"
            elif heard.reads != self._reads:
                self.reason = "the host does not read the same values in every step"
        self._reads = heard.reads
        return result

    def _tell(self, images: Tensor, labels: Tensor) -> Result:
        if not self._reads_constants:
            return self._step(images, labels)
        with Telling(images.device, self._reads or []):
            return self._step(images, labels)


def _random_states(device: torch.device) -> list[Tensor]:
    """Of the host, and of the device."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def record(compute: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
    """Record a computation as a CUDA graph, without running it.

    Raises what went wrong in the computation, and leaves the device fit to go on with.
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
        # PyTorch before 2.12 stays on the capture's stream and leaves its pool open, with which
        # every later capture would fail, and covers the cause with the end of the capture.
        torch.cuda.set_stream(stream)
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
        raise cause or error from None
    return graph.replay, result
