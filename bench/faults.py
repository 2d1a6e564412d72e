"""Out of memory: telling it from other errors, and recovering."""

import gc

import torch

_CPU_MESSAGES = ("not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in message for part in _CPU_MESSAGES)


def free_memory(device: torch.device) -> None:
    """Give back what an experiment that ran out of memory may have left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
