"""Record the scalars that the host reads from the device in a training step, and replay them.

While a CUDA graph is captured the host may read nothing. torchdiffeq reads in every solve whether
its times increase and whether the last step is reached. These values depend on the times alone, so
they are recorded in the steps before the capture, and replayed in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from solvers.with_torchdiffeq import is_constant, mark_constant

READ = torch.ops.aten._local_scalar_dense.default

Value = bool | int | float | complex


class _WatchHostReads(TorchDispatchMode):
    """A context that tracks which tensors are computed from marked constants alone."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def read_constant(self, read: Callable[[], Value]) -> Value:
        """Return the value for a host that reads a constant; `read` waits for the device."""
        raise NotImplementedError

    def read_other(self) -> None:
        """Called when the host reads any other value of the device."""
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


class RecordHostReads(_WatchHostReads):
    """Record scalars that the host reads; results are unchanged.

    reads: the values of constants, in order; None once the host has read another value.
    """

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


class ReplayHostReads(_WatchHostReads):
    """Give the host these values of constants, in order, without asking the device.

    Raises RuntimeError if the host reads another value, or more or fewer values.
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
