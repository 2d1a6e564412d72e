"""Prove that a second pass through a right-hand side was the first one, by checksums."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy
import torch
from torch import Tensor

Checksum = int | Tensor

_COLUMNS = 509
"""A prime, so that values that change places, such as whole images, change columns."""

_ROWS = 128
"""Rows that are summed at a time on the CPU, so that they fit into its cache."""


class InexactError(ValueError):
    """A backward pass that would not return the gradient of the forward pass."""


def checksum(tensors: Sequence[Tensor]) -> list[Checksum]:
    """A number of 64 bits for each tensor, from all its bits, their places in memory and its shape.

    Integer sums, so the same in any order of summation. On the CPU they are Python's numbers, on
    another device scalar tensors, for which the host does not wait.
    """
    require_proofs(tensors[0].device, waits=False)
    return [_checksum(tensor) for tensor in tensors]


def require_same(tensors: Sequence[Tensor], expected: Sequence[Checksum]) -> None:
    """Require that these tensors have the expected checksums."""
    for found, known in zip(checksum(tensors), expected, strict=True):
        require(found == known)


def sample(tensor: Tensor) -> Tensor:
    """A copy of about a thousand values, evenly spread over the tensor."""
    flat = _flat(tensor.detach())
    stride = max(1, len(flat) // 1000)
    while math.gcd(stride, len(flat)) > 1:  # else it could miss whole channels
        stride += 1
    return flat[::stride].clone()


def require_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Require that two samples differ by no more than `tolerance` times the latter's 2-norm, unless
    one is not finite."""
    require(~((found - expected).norm() > tolerance * expected.norm()))


def require(is_same: bool | Tensor) -> None:
    """Raises InexactError unless a recomputation was the same.

    On CUDA the host does not wait, so a CUDA graph can hold the comparison: the device counts the
    differences and copies the count, and the next solve or `require_proofs` raises the error.
    """
    if isinstance(is_same, Tensor) and is_same.device.type != "cpu":
        counted, known = _tally(is_same.device)
        counted.add_(~is_same)
        if is_same.device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            known.copy_(counted, non_blocking=True)
    elif not (is_same.tolist() if isinstance(is_same, Tensor) else is_same):
        raise InexactError(_DIFFERENT)


def require_proofs(device: torch.device, *, waits: bool = True) -> None:
    """Raises InexactError if a recomputation on a CUDA device, captured or not, has differed since
    the last error. With waits, of all so far; otherwise of those whose count has arrived."""
    if device.type == "cuda":
        counted, known = _tally(device)
        if waits:
            known.copy_(counted)
        if known.tolist():
            known.copy_(counted.zero_())  # after pending copies
            raise InexactError(_DIFFERENT)


_DIFFERENT = (
    "the right-hand side was not the same when the backward pass ran it again: an attribute or a "
    "variable that it reads was changed in between, it counts its evaluations, it draws random "
    "numbers of Python or NumPy, a kernel is not deterministic, or reversible amplified rounding. "
    "Let it depend on t, z, its parameters and PyTorch's random numbers alone, or choose the "
    "gradient method backprop"
)


@cache
def _tally(device: torch.device) -> tuple[Tensor, Tensor]:
    """Number of recomputations on a device that differed: there, and its copy on the host."""
    with torch.inference_mode(False):
        counted = torch.zeros((), dtype=torch.int64, device=device)
        known = torch.zeros((), dtype=torch.int64, pin_memory=device.type == "cuda")
        return counted, known


def _checksum(tensor: Tensor) -> Checksum:
    on_cpu = tensor.device.type == "cpu"
    bits = _flat(tensor.detach()).contiguous()
    bits = bits.view({1: torch.int8, 2: torch.int16}.get(bits.element_size(), torch.int32))
    # NumPy sums integers faster than PyTorch on the CPU, and its methods have the same names.
    words: Any = bits.numpy() if on_cpu else bits
    whole = len(words) - len(words) % _COLUMNS
    body, rest = words[:whole].reshape(-1, _COLUMNS), words[whole:]
    weights = _weights(tensor.device)
    sums, int64 = weights * 0, (numpy if on_cpu else torch).int64
    step = _ROWS if on_cpu else max(1, whole)
    for begin in range(0, len(body), step):
        sums += body[begin : begin + step].sum(0, dtype=int64)
    sums[: len(rest)] += rest
    total = (sums * weights).sum()
    return (int(total) if on_cpu else total) + hash((tensor.shape, _order(tensor))) // 2


@cache
def _weights(device: torch.device) -> Any:
    with torch.inference_mode(False):
        numbers = torch.arange(1, _COLUMNS + 1, device=device) * 0x2545F4914F6CDD1D
        numbers ^= numbers >> 29
        return numbers.numpy() if device.type == "cpu" else numbers


def _flat(tensor: Tensor) -> Tensor:
    """All values in their order in memory, not copied where they are dense."""
    ones = [d for d in range(tensor.dim()) if tensor.shape[d] == 1]
    return tensor.permute([*_order(tensor), *ones]).reshape(-1)


def _order(tensor: Tensor) -> tuple[int, ...]:
    """The dimensions of more than one element, in their order in memory."""
    dimensions = [d for d in range(tensor.dim()) if tensor.shape[d] != 1]
    return tuple(sorted(dimensions, key=tensor.stride, reverse=True))
