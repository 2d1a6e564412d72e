"""Prove that a second pass through a right-hand side was the first one, by checksums.

Values are compared, and nothing else. A change of the right-hand side between the two passes that
alters the gradient and no bit of the result is not noticed: a factor whose other factor is 0, a
backward hook that reads a variable, `x.detach()` in place of x.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from hashlib import blake2b
from typing import Any

import numpy
import torch
from torch import Tensor

Checksum = int | Tensor

_PARTS = 1000
"""Number of parts of a tensor that `signed_sums` sums up, for a tensor with as many values."""


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


def signed_sums(tensor: Tensor) -> Tensor:
    """The sums over about a thousand parts of a tensor, each value with a fixed random sign."""
    flat = _flat(tensor.detach())
    signs = (_random(-(-len(flat) // _PARTS) or 1, flat.device) % 2 * 2 - 1).to(flat.dtype)
    whole = len(flat) // len(signs) * len(signs)
    sums, rest = flat[:whole].view(-1, len(signs)) @ signs, flat[whole:]
    return torch.cat([sums, (rest * signs[: len(rest)]).sum(0, keepdim=True)])


def require_close(found: Tensor, expected: Tensor, tolerance: Tensor) -> None:
    """Require that no two of these values differ by more than the tolerance. NaN is accepted."""
    require(~((found - expected).abs().max() > tolerance))


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


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that raises InexactError where autograd is to differentiate it again.

    PyTorch's `once_differentiable` raises only where the second derivative passes through its
    result: `torch.autograd.grad` leaves this part out without an error.
    """

    @wraps(backward)
    def checked(*given: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            raise InexactError(
                "this gradient method has no second derivatives: leave out create_graph=True, or "
                "choose the gradient method backprop"
            )
        return backward(*given)

    return checked


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
    values = _flat(tensor.detach()).contiguous()
    total = hash((tensor.shape, _order(tensor)))
    return (_on_cpu if tensor.device.type == "cpu" else _on_device)(values, total)


def _on_cpu(values: Tensor, total: int) -> int:
    """By a hash that reads as fast as the memory delivers."""
    return hash((total, _hash()(values.view(torch.uint8).numpy())))


@cache
def _hash() -> Callable[[numpy.ndarray], int | bytes]:
    try:
        from xxhash import xxh3_64_intdigest
    except ImportError:  # a checkout that was not installed
        return lambda data: blake2b(data, digest_size=8).digest()  # slower
    return xxh3_64_intdigest


def _on_device(values: Tensor, total: Any) -> Any:
    words = values.view({1: torch.int8, 2: torch.int16}.get(values.element_size(), torch.int32))
    weights = _random(1 << 20, values.device)  # 8 MiB, and few kernels
    for part in words.split(len(weights)):
        total = (total + (part * weights[: len(part)]).sum()) * 0x2545F4914F6CDD1D
    return total


@cache
def _random(count: int, device: torch.device) -> Tensor:
    """Random numbers of 63 bits, always the same."""
    with torch.inference_mode(False):
        numbers = numpy.random.default_rng(0).integers(2**63, size=count)
        return torch.from_numpy(numbers).to(device)


def _flat(tensor: Tensor) -> Tensor:
    """All values in their order in memory, not copied where they are dense."""
    ones = [d for d in range(tensor.dim()) if tensor.shape[d] == 1]
    return tensor.permute([*_order(tensor), *ones]).reshape(-1)


def _order(tensor: Tensor) -> tuple[int, ...]:
    """The dimensions of more than one element, in their order in memory."""
    dimensions = [d for d in range(tensor.dim()) if tensor.shape[d] != 1]
    return tuple(sorted(dimensions, key=tensor.stride, reverse=True))
