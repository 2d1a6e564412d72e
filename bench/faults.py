"""What went wrong: telling out of memory from other errors, recovering, and saying it."""

import gc

import torch

from bench.errors import readable

_MESSAGES = (
    *("not enough memory", "can't allocate memory"),  # the host's
    *("cuda error: out of memory", "cublas_status_alloc_failed"),  # not through PyTorch's allocator
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = _text(error).lower()
    return isinstance(error, RuntimeError) and any(part in message for part in _MESSAGES)


def first_line(error: BaseException) -> str:
    """What an error says, in a line; empty where it says nothing."""
    return readable(_text(error).strip().partition("\n")[0])


def in_a_line(error: BaseException) -> str:
    """The type of an error, and what it says."""
    kind, said = type(error).__name__, first_line(error)
    return f"{kind}: {said}" if said else kind


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # whatever somebody's own exception does
        return ""


def free_memory(device: torch.device) -> None:
    """Give back what an experiment that ran out of memory may have left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
