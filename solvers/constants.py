"""Tensors on a device whose values are the same in every training step.

A gradient method marks those that it makes once, so that a step in which the host reads what is
computed from them alone can be captured as a CUDA graph nevertheless; see bench/training/host_reads.py.
"""

from torch import Tensor


def mark_constant(tensor: Tensor) -> Tensor:
    """The tensor itself, from now on known to hold these values in every step: until it, or another
    tensor on the same memory, is changed in place, as far as PyTorch counts that (not by `.data`).
    """
    if not tensor.is_inference():  # of those it counts nothing
        tensor.is_constant = tensor._version  # type: ignore[attr-defined]
    return tensor


def is_constant(tensor: Tensor) -> bool:
    marked = getattr(tensor, "is_constant", None)
    return marked is not None and marked == tensor._version
