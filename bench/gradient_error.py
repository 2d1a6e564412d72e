"""How far a network's gradient is from store-everything backpropagation's."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import ODEBlock


@dataclass(frozen=True)
class GradientError:
    """error is ‖g − g_ref‖₂ / ‖g_ref‖₂ and cosine ⟨g, g_ref⟩ / (‖g‖₂ ‖g_ref‖₂), over all trainable
    parameters; in the tuples over those of each ODE block, in the network's order."""

    error: float
    cosine: float
    block_errors: tuple[float, ...]
    block_cosines: tuple[float, ...]


def measure(network: nn.Module, images: Tensor, labels: Tensor) -> GradientError:
    """The gradient error of a network with ODE blocks on one batch of cross-entropy loss.

    images (batch, 3, 32, 32) and labels (batch,). The reference is `backprop` at the same
    weights, batch, precision and mode. Leaves no trace: buffers (BatchNorm's statistics),
    gradients, random state and the blocks' gradient methods are what they were.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradient = _gradient(network, parameters, images, labels)
    with _gradient_method(network, "backprop"):
        reference = _gradient(network, parameters, images, labels)
    error, cosine = _compare(gradient, reference)
    position = {id(parameter): i for i, parameter in enumerate(parameters)}
    blocks = []
    for block in _blocks(network):
        own = [position[id(p)] for p in block.parameters() if id(p) in position]
        blocks.append(_compare([gradient[i] for i in own], [reference[i] for i in own]))
    return GradientError(error, cosine, tuple(b[0] for b in blocks), tuple(b[1] for b in blocks))


def _gradient(
    network: nn.Module, parameters: list[nn.Parameter], images: Tensor, labels: Tensor
) -> list[Tensor]:
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _buffers_restored(network), torch.enable_grad():
        loss = F.cross_entropy(network(images), labels)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(parameters, found, strict=True)
        ]


def _compare(gradient: list[Tensor], reference: list[Tensor]) -> tuple[float, float]:
    """Relative error and cosine, summed in float64; 0 and 1 where both gradients vanish."""
    square_difference = square = square_reference = product = 0.0
    for g, r in zip(gradient, reference, strict=True):
        g, r = g.double(), r.double()
        square_difference += float((g - r).square().sum())
        square += float(g.square().sum())
        square_reference += float(r.square().sum())
        product += float((g * r).sum())
    if square_reference == 0:
        return (0.0, 1.0) if square == 0 else (math.inf, 0.0)
    error = math.sqrt(square_difference / square_reference)
    if error == 0:
        return 0.0, 1.0
    return error, product / math.sqrt(square * square_reference) if square > 0 else 0.0


def _blocks(network: nn.Module) -> list[ODEBlock]:
    return [module for module in network.modules() if isinstance(module, ODEBlock)]


@contextmanager
def _gradient_method(network: nn.Module, gradient: str) -> Iterator[None]:
    before = [(block, block.gradient) for block in _blocks(network)]
    try:
        for block, _ in before:
            block.gradient = gradient
        yield
    finally:
        for block, own in before:
            block.gradient = own


@contextmanager
def _buffers_restored(network: nn.Module) -> Iterator[None]:
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
