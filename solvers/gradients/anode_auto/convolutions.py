"""Remember the results of convolutions, so that running a block again need not repeat them.

A convolution of few channels takes most of an evaluation's time and stores a third of its bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from solvers.proof import Checksum, checksum, require, require_same

_DIMENSIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


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


class Remembered:
    """The results of the convolutions of one pass, in their order."""

    def __init__(self) -> None:
        self._results: list[tuple[Tensor, int, list[Checksum], tuple[Any, ...]]] = []
        self.is_differentiated = False

    def append(self, result: Tensor, found: _Convolution) -> None:
        self._results.append((result, result._version, checksum(found.tensors), found.how))

    def is_intact(self) -> bool:
        """Whether no result was changed in place, as by an activation, and the right-hand side did
        not differentiate inside itself: a remembered convolution has no second derivative."""
        unchanged = all(result._version == version for result, version, *_ in self._results)
        return unchanged and not self.is_differentiated

    def pop(self, found: _Convolution) -> Tensor:
        """Remove and return the next result. Raises InexactError unless this convolution has the
        same arguments."""
        require(bool(self._results))
        result, _, given, how = self._results.pop(0)
        require(found.how == how)
        require_same(found.tensors, given)
        return result


class _Convolutions(TorchFunctionMode):
    """Context in which `convolve` computes the convolutions.

    Not those under autocast, whose casts `convolve` would have to repeat, and not those whose
    padding is given by name.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _DIMENSIONS:
            found = _Convolution(*args, **kwargs)
            is_cast = torch.is_autocast_enabled(found.input.device.type)
            if not is_cast and not isinstance(found.padding, str):
                return self.convolve(function, found)
        self.observe(function)
        return function(*args, **kwargs)

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        raise NotImplementedError

    def observe(self, function: Callable[..., Any]) -> None:
        """Called before any other function."""


class Remember(_Convolutions):
    """Context that remembers the results of the convolutions inside."""

    def __init__(self, remembered: Remembered) -> None:
        super().__init__()
        self._remembered = remembered

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        result = function(*found)
        self._remembered.append(result.detach(), found)
        return result

    def observe(self, function: Callable[..., Any]) -> None:
        if function in (torch.autograd.grad, torch.autograd.backward, Tensor.backward):
            self._remembered.is_differentiated = True


class Recall(Remember):
    """Context in which the convolutions have their remembered results, with their own gradients."""

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        return _Known.apply(self._remembered.pop(found), _DIMENSIONS[function], *found)


class Counted(_Convolutions):
    """Context that counts the convolutions inside. bytes: of their results; moved: of results and
    inputs; operations: floating-point operations."""

    bytes = operations = moved = 0

    def convolve(self, function: Callable[..., Tensor], found: _Convolution) -> Tensor:
        result = function(*found)
        self.bytes += result.nbytes
        self.moved += result.nbytes + found.input.nbytes
        self.operations += 2 * result.numel() * (found.weight.numel() // len(found.weight))
        return result


class _Known(torch.autograd.Function):
    """A convolution whose result is known. Its gradients are those of PyTorch's own."""

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
