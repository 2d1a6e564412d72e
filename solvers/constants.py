"""Tensors on a device whose values are the same in every training step.

A gradient method marks those that it makes once, so that a step which has the host read what is
computed from them alone can be captured as a CUDA graph nevertheless; see bench/host_reads.py.
"""

from torch import Tensor


def mark_constant(tensor: Tensor) -> Tensor:
    """The tensor itself, from now on known to hold the same values in every step."""
    tensor.is_constant = True  # type: ignore[attr-defined]
    return tensor


def is_constant(tensor: Tensor) -> bool:
    return getattr(tensor, "is_constant", False)
