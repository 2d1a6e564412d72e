"""Remember the results of convolutions, so that running a block again need not repeat them.

A convolution of few channels takes most of an evaluation's time and stores a third of its bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from solvers.proof import Checksum, checksum, require, require_same


class _Convolutions(TorchDispatchMode):
    """Context in which `convolve` computes the convolutions. Their gradients are autograd's."""

    def __torch_dispatch__(
        self, operator: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operator is torch.ops.aten.convolution.default:
            return self.convolve(operator, args)
        return operator(*args, **(kwargs or {}))

    def convolve(self, operator: Callable[..., Tensor], given: Sequence[Any]) -> Tensor:
        raise NotImplementedError


class Remember(_Convolutions):
    """Context that remembers the results of the convolutions inside, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[tuple[Tensor, int, list[Checksum], list[Any]]] = []

    def convolve(self, operator: Callable[..., Tensor], given: Sequence[Any]) -> Tensor:
        result = operator(*given)
        tensors, how = _split(given)
        # Inside a dispatch mode only this lets the copy count changes of the result in place.
        with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
            copy = result.detach()
        self.results.append((copy, copy._version, checksum(tensors), how))
        return result

    def is_intact(self) -> bool:
        """Return whether no result was changed in place, as by an activation."""
        return all(result._version == version for result, version, *_ in self.results)


class Recall(_Convolutions):
    """Context in which the convolutions have remembered results, each once. Raises InexactError
    unless they have the same arguments."""

    def __init__(self, remembered: Remember) -> None:
        super().__init__()
        self._results = remembered.results

    def convolve(self, operator: Callable[..., Tensor], given: Sequence[Any]) -> Tensor:
        require(bool(self._results))
        result, _, known, known_how = self._results.pop(0)
        tensors, how = _split(given)
        require(how == known_how)
        require_same(tensors, known)
        return result


def _split(given: Sequence[Any]) -> tuple[list[Tensor], list[Any]]:
    """The tensors among the arguments of a convolution, and everything but their values."""
    tensors = [x for x in given if isinstance(x, Tensor)]
    return tensors, [x.shape if isinstance(x, Tensor) else x for x in given]


class Counted(_Convolutions):
    """Context that counts the convolutions inside. bytes: of their results; moved: of results and
    inputs; operations: floating-point operations."""

    bytes = operations = moved = 0

    def convolve(self, operator: Callable[..., Tensor], given: Sequence[Any]) -> Tensor:
        result, (input, weight, *_) = operator(*given), given
        self.bytes += result.nbytes
        self.moved += result.nbytes + input.nbytes
        self.operations += 2 * result.numel() * (weight.numel() // len(weight))
        return result
