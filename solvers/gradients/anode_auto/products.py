"""Convolutions whose results are remembered, so that running a block again need not repeat them.

A convolution of few channels takes most of an evaluation's time and stores a third of its bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from solvers.proof import Checksum, checksum, require, require_same

_CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class _Convolution(NamedTuple):
    """The arguments of torch.conv1d, conv2d and conv3d."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: int | Sequence[int] = 1
    padding: int | str | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    @property
    def tensors(self) -> list[Tensor]:
        return [self.input, self.weight, *([] if self.bias is None else [self.bias])]

    @property
    def how(self) -> tuple[Any, ...]:
        """Everything but the tensors' values."""
        return (*(tensor.shape for tensor in self.tensors), *self[3:])


def _convolution(function: Any, args: Any, kwargs: Any) -> _Convolution | None:
    """What is convolved, or None for another function, for a padding that is given by name, and
    under autocast, which would have to be done again."""
    if function not in _CONVOLUTIONS:
        return None
    found = _Convolution(*args, **(kwargs or {}))
    is_autocast = torch.is_autocast_enabled(found.input.device.type)
    return None if is_autocast or isinstance(found.padding, str) else found


class _Result(NamedTuple):
    """Of a convolution: what it was given, and how, tells it from others."""

    tensor: Tensor
    version: int
    given: list[Checksum]
    how: tuple[Any, ...]


class Remembered:
    """The results of the convolutions of one pass, in their order."""

    def __init__(self) -> None:
        self._results: list[_Result] = []
        self._differentiates = False

    def keep(self, result: Tensor, found: _Convolution) -> None:
        given = checksum(found.tensors)
        self._results.append(_Result(result, result._version, given, found.how))
        # The pass is without gradients, but for a right-hand side that differentiates by itself.
        self._differentiates |= torch.is_grad_enabled()

    def is_intact(self) -> bool:
        """Whether no result was changed in place, as an activation may do, nor was part of what the
        right-hand side differentiates: a convolution that is known has no second derivative."""
        unchanged = all(result.tensor._version == result.version for result in self._results)
        return unchanged and not self._differentiates

    def take(self, found: _Convolution) -> Tensor:
        """The next result, which is let go. Raises InexactError unless the convolution is the one
        that it is the result of."""
        require(bool(self._results))
        result = self._results.pop(0)
        require(result.how == found.how)
        require_same(found.tensors, result.given)
        return result.tensor


class _OfConvolutions(TorchFunctionMode):
    """Has the convolutions inside done by `convolve`."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = _convolution(function, args, kwargs)
        if found is None:
            return function(*args, **(kwargs or {}))
        return self.convolve(function, found)

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        raise NotImplementedError


class _OfRemembered(_OfConvolutions):
    def __init__(self, remembered: Remembered) -> None:
        super().__init__()
        self._remembered = remembered


class Remember(_OfRemembered):
    """Keeps what the convolutions inside result in."""

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        result = function(*found)
        self._remembered.keep(result, found)
        return result


class Recall(_OfRemembered):
    """Has the convolutions inside result in what is remembered, with their own gradients."""

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        return _Known.apply(self._remembered.take(found), _CONVOLUTIONS[function], *found)


class Counted(_OfConvolutions):
    """Adds up the convolutions inside. bytes: of their results; moved: of those and what they read;
    operations: in floating point."""

    bytes = operations = moved = 0

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        result = function(*found)
        self.bytes += result.nbytes
        self.moved += result.nbytes + found.input.nbytes
        self.operations += 2 * result.numel() * (found.weight.numel() // len(found.weight))
        return result


class _Known(torch.autograd.Function):
    """A convolution whose result is known. Its gradients are those that PyTorch's own has."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, dimensions: int, *given: Any) -> Tensor:
        found = _Convolution(*given)
        ctx.save_for_backward(found.input, found.weight)
        ctx.bias_sizes = None if found.bias is None else list(found.bias.shape)
        ctx.windows = [
            [value] * dimensions if isinstance(value, int) else list(value)
            for value in (found.stride, found.padding, found.dilation)
        ]
        ctx.groups = found.groups
        return result.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        input, weight = ctx.saved_tensors
        found = torch.ops.aten.convolution_backward(
            gradient,
            input,
            weight,
            ctx.bias_sizes,
            *ctx.windows,
            False,  # not transposed
            [0] * len(ctx.windows[0]),
            ctx.groups,
            [ctx.needs_input_grad[index] for index in (2, 3, 4)],
        )
        return (None, None, *found, None, None, None, None)
