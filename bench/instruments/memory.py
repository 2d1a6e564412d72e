"""Peak memory of a computation."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.training import interrupts
from bench.training.measured_step import MeasuredStep


def peak_bytes(compute: Callable[[], object], device: torch.device) -> int:
    """The peak of the bytes allocated during `compute`, less what was allocated before it.

    On CUDA the allocator's peak. On the CPU the bytes of all live tensors, counted exactly by
    following their storages, so that it is the same number on every machine; scratch space inside
    an operator is not seen.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        compute()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # Python discards what is raised in a weak reference's callback, KeyboardInterrupt included.
    with interrupts.deferred(), _LiveBytes() as live:
        compute()
    return live.peak


def resources(step: MeasuredStep) -> dict[str, Any]:
    """peak_bytes, nfe_forward and nfe_backward of one eager step: exact, but for CUDA's
    allocator."""
    peak = peak_bytes(step.eagerly, step.images.device)
    forward, backward = step.evaluations
    return {"peak_bytes": peak, "nfe_forward": forward, "nfe_backward": backward}


class _LiveBytes(TorchDispatchMode):
    """Follows every storage that an operator returns until the storage is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        before = {_key(tensor) for tensor in tree_leaves((args, kwargs)) if _has_storage(tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            # A view or an in-place result shares its storage with an argument.
            if _has_storage(tensor) and _key(tensor) not in before:
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._freed(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _freed(self, key: int, size: int) -> None:
        del self._known[key]
        self.live -= size


def _has_storage(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type != "meta"


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
