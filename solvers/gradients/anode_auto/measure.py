"""Measure the bytes that autograd stores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from solvers.gradients.anode_auto.convolutions import Counted


class Measurement:
    """Bytes that autograd stores for the computation inside `running`, and its convolutions.

    bytes: all but the state and the parameters given to `close`; shared: of that state, if it is
    stored.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self.bytes = self.shared = 0
        self.convolutions = Counted()

    @contextmanager
    def running(self) -> Iterator[None]:
        with saved_tensors_hooks(self._note, lambda tensor: tensor), self.convolutions:
            yield

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._sizes[storage._cdata] = storage.nbytes()
        return tensor.detach()  # an output stored as it is would keep itself alive

    def close(self, z0: Tensor, parameters: Sequence[Tensor]) -> None:
        self.shared = self._sizes.pop(z0.untyped_storage()._cdata, 0)
        for parameter in parameters:
            self._sizes.pop(parameter.untyped_storage()._cdata, None)
        self.bytes = sum(self._sizes.values())


def bytes_since_last_block(z: Tensor) -> int:
    """Bytes that the layers between the last ODE block and z store for their backward passes,
    together with that block's result."""
    kept = {z.untyped_storage()._cdata: z.nbytes}
    weights: set[int] = set()
    seen: set[Any] = set()
    nodes = [z.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen or hasattr(node, "block"):  # the node of a block
            continue
        seen.add(node)
        nodes += [parent for parent, _ in node.next_functions]
        if hasattr(node, "variable"):
            weights.add(node.variable.untyped_storage()._cdata)
        for tensor in _saved(node):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
    return sum(size for key, size in kept.items() if key not in weights)


def _saved(node: Any) -> Iterator[Tensor]:
    values = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
    values += getattr(node, "saved_tensors", ())
    for value in values:
        yield from (
            v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, Tensor)
        )
