"""Measure the bytes that autograd stores, in its graph, and the work of convolutions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from solvers.gradients.anode_auto.plan import BlockSize
from solvers.parameters import edges, upstream


class Convolutions(TorchDispatchMode):
    """Context that counts the floating-point operations of the convolutions inside."""

    operations = 0

    def __torch_dispatch__(
        self, operator: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        if operator is torch.ops.aten.convolution.default:
            weight = args[1]
            self.operations += 2 * result.numel() * (weight.numel() // len(weight))
        return result


def measured(size: BlockSize, ends: Sequence[Tensor], inputs: Sequence[Tensor]) -> BlockSize:
    """The size of a block with what its evaluations store, after they computed `ends` from the
    inputs, which are z0 and the parameters."""
    kept = _stored(edges(ends), edges(inputs))
    z0, *parameters = inputs
    for parameter in parameters:
        kept.pop(_key(parameter), None)
    evaluation = -(-sum(kept.values()) // size.n_evaluations)
    return replace(size, evaluation=evaluation, shared=kept.get(_key(z0), 0))


def bytes_since(blocks: Iterable[tuple[Any, int]], z: Tensor) -> int:
    """Bytes that the layers between ODE blocks and z store for their backward passes, together with
    the blocks' results. blocks: the results' places in the graph."""
    return sum((_stored(edges([z]), blocks) | {_key(z): z.nbytes}).values())


def _stored(ends: Iterable[Any], stops: Iterable[Any]) -> dict[int, int]:
    """The bytes of each storage that autograd keeps between these edges, leaves excepted."""
    kept: dict[int, int] = {}
    leaves = set()
    for node, _ in upstream(ends, stops):
        if hasattr(node, "variable"):
            leaves.add(_key(node.variable))
        kept |= {_key(tensor): tensor.untyped_storage().nbytes() for tensor in _saved(node)}
    return {key: size for key, size in kept.items() if key not in leaves}


def _saved(node: Any) -> Iterator[Tensor]:
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            saved = getattr(node, name)
            for one in saved if isinstance(saved, tuple) else (saved,):
                # Unpacking would run a layer again that torch.utils.checkpoint wraps.
                if isinstance(tensor := getattr(one, "data", None), Tensor):
                    yield tensor


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
