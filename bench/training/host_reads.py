"""What the host reads from the device in a training step, so that a captured step need not.

While a CUDA graph is captured nothing may be read. torchdiffeq reads, in every solve, whether its
times increase and whether a step has come to the end: what it reads is computed from the times
alone, and is the same in every step. It is heard in the steps before the capture, and told in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from solvers.gradients.with_torchdiffeq import is_constant, mark_constant

READ = torch.ops.aten._local_scalar_dense.default

Value = bool | int | float | complex


class _Watching(TorchDispatchMode):
    """A context that knows which tensors are computed from marked constants alone."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def read_constant(self, read: Callable[[], Value]) -> Value:
        """What to give the host that reads a constant; `read` waits for the device."""
        raise NotImplementedError

    def read_other(self) -> None:
        """Called when the host reads anything else of the device."""
        raise NotImplementedError

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        are_constant = (
            bool(given)
            and all(map(is_constant, given))
            and not function._schema.is_mutable
            and torch.Tag.nondeterministic_seeded not in function.tags
        )
        if function is READ and given[0].device == self._device:
            if are_constant:
                return self.read_constant(lambda: function(*args, **kwargs))
            self.read_other()
        result = function(*args, **kwargs)
        if are_constant:
            for tensor in _tensors(result):
                mark_constant(tensor)
        return result


class Hearing(_Watching):
    """A step taken in this context has the values that it would have without it. reads: those of
    constants that the host read, one after another; None once it has read another value."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.reads: list[Value] | None = []

    def read_constant(self, read: Callable[[], Value]) -> Value:
        value = read()
        if self.reads is not None:
            self.reads.append(value)
        return value

    def read_other(self) -> None:
        self.reads = None


class Telling(_Watching):
    """In this context the host is told these values of constants, one after another, and the device
    is not asked.

    Raises RuntimeError where it reads another value, or not as many.
    """

    def __init__(self, device: torch.device, reads: Sequence[Value]) -> None:
        super().__init__(device)
        self._left = list(reversed(reads))

    def read_constant(self, read: Callable[[], Value]) -> Value:
        if not self._left:
            raise RuntimeError("the host reads more values than in the steps before")
        return self._left.pop()

    def read_other(self) -> None:
        raise RuntimeError("the host reads a value that is not the same in every step")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if kind is None and self._left:
            raise RuntimeError("the host reads fewer values than in the steps before")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
