"""The distance of a network's gradient from that of store-everything backpropagation."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import block_inputs, ode_blocks
from solvers.gradients import reference as reference_of
from solvers.proof import require_proofs
from solvers.replay import buffers_put_back


@dataclass(frozen=True)
class GradientError:
    """error is ‖g − g_ref‖₂ / ‖g_ref‖₂ and cosine ⟨g, g_ref⟩ / (‖g‖₂ ‖g_ref‖₂), over all trainable
    parameters; in the tuples over those of each ODE block, in the network's order. The state
    errors are of the gradients in the blocks' inputs z(0).

    statistics_error is the same distance between the floating-point buffers (BatchNorm's running
    statistics) after both passes and those that the reference leaves, output_error that between
    the network's outputs.
    """

    error: float
    cosine: float
    block_errors: tuple[float, ...]
    block_cosines: tuple[float, ...]
    state_errors: tuple[float, ...]
    state_cosines: tuple[float, ...]
    statistics_error: float
    output_error: float


def measure(network: nn.Module, images: Tensor, labels: Tensor) -> GradientError:
    """The gradient error of a network with ODE blocks on one batch of cross-entropy loss.

    images (batch, 3, 32, 32) and labels (batch,). The reference is `backprop` at the same
    weights, batch, precision and mode, or the method with the same forward pass that the gradient
    method names. Buffers (BatchNorm's statistics), gradients, random state
    and the blocks' gradient methods are unchanged.
    """
    return compare(observe(network, images, labels), reference(network, images, labels))


class Observed(NamedTuple):
    """Gradients in the parameters and in the blocks' inputs, the buffers afterwards, and the
    network's output; blocks: which of the parameters are each block's."""

    parameters: list[Tensor]
    states: list[Tensor]
    buffers: list[Tensor]
    blocks: list[list[int]]
    output: Tensor


def reference(
    network: nn.Module, images: Tensor, labels: Tensor, gradient: str | None = None
) -> Observed:
    """The result of `observe` with the reference of each block's gradient method, or with another
    gradient method."""
    with ExitStack() as restored:
        for block in ode_blocks(network):
            restored.callback(setattr, block, "gradient", block.gradient)
            block.gradient = gradient or reference_of(block.gradient)
        return observe(network, images, labels)


def compare(found: Observed, reference: Observed) -> GradientError:
    """The error of one result of `observe` relative to another on the same network and batch."""
    parameters = _products(found.parameters, reference.parameters)
    states = _products(found.states, reference.states)
    error, cosine = _relative(parameters)
    blocks = [_relative([parameters[i] for i in own]) for own in found.blocks]
    of_states = [_relative([state]) for state in states]
    return GradientError(
        error=error,
        cosine=cosine,
        block_errors=tuple(error for error, _ in blocks),
        block_cosines=tuple(cosine for _, cosine in blocks),
        state_errors=tuple(error for error, _ in of_states),
        state_cosines=tuple(cosine for _, cosine in of_states),
        statistics_error=_relative(_products(found.buffers, reference.buffers))[0],
        output_error=_relative(_products([found.output], [reference.output]))[0],
    )


def observe(
    network: nn.Module, images: Tensor, labels: Tensor, *, loss_scale: float = 1.0
) -> Observed:
    """The gradients of one batch of cross-entropy loss; changes nothing, as `measure`.

    loss_scale multiplies the loss; the gradients are divided by it.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    devices = [images.device] if images.device.type == "cuda" else []
    with (
        block_inputs(network) as inputs,
        torch.random.fork_rng(devices=devices),
        buffers_put_back(network),
        torch.enable_grad(),
    ):
        output = network(images)
        loss = loss_scale * F.cross_entropy(output, labels)
        # The input of a network's first layer is an image, which requires no gradient.
        states = [z for _, z in inputs if z.requires_grad]
        wanted = [*parameters, *states]
        found = [
            torch.zeros_like(tensor) if gradient is None else gradient / loss_scale
            for tensor, gradient in zip(
                wanted, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True
            )
        ]
        require_proofs(images.device)
        # BatchNorm's count of batches is no statistic, and is far larger than those that are.
        buffers = [b.clone() for b in network.buffers() if b.is_floating_point()]
    position = {id(parameter): i for i, parameter in enumerate(parameters)}
    blocks = [
        [position[id(p)] for p in block.parameters() if id(p) in position]
        for block in ode_blocks(network)
    ]
    gradients, states = found[: len(parameters)], found[len(parameters) :]
    return Observed(gradients, states, buffers, blocks, output.detach())


class _Products(NamedTuple):
    """Of a tensor g and its reference r: ‖g − r‖², ‖g‖², ‖r‖² and ⟨g, r⟩."""

    difference: float
    own: float
    reference: float
    product: float


def _products(gradient: list[Tensor], reference: list[Tensor]) -> list[_Products]:
    """Computed in float64 and read together, so that the host waits for the device once."""
    found = []
    for g, r in zip(gradient, reference, strict=True):
        g, r = g.double(), r.double()
        found += [(g - r).square().sum(), g.square().sum(), r.square().sum(), (g * r).sum()]
    values = torch.stack(found).tolist() if found else []
    return [_Products(*values[i : i + 4]) for i in range(0, len(values), 4)]


def _relative(parts: list[_Products]) -> tuple[float, float]:
    """Relative error and cosine of all these together; 0 and 1 where both gradients vanish."""
    square_difference = sum(part.difference for part in parts)
    square = sum(part.own for part in parts)
    square_reference = sum(part.reference for part in parts)
    if square_reference == 0:
        return (0.0, 1.0) if square == 0 else (math.inf, 0.0)
    error = math.sqrt(square_difference / square_reference)
    if error == 0:
        return 0.0, 1.0
    product = sum(part.product for part in parts)
    return error, product / math.sqrt(square * square_reference) if square > 0 else 0.0
