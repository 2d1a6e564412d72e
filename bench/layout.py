"""The memory format of networks and their images."""

import torch
from torch import Tensor, nn

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
MEMORY_FORMATS = {CHANNELS_LAST: torch.channels_last, CONTIGUOUS: torch.contiguous_format}

_FASTER = {"cpu": CHANNELS_LAST, "cuda": CHANNELS_LAST}
"""By kind of device. Measured on a CPU, in results/reference/cost-cpu; on CUDA it is not yet: the
suite `cost` times backprop and node in both."""


def layout_of(device: torch.device) -> str:
    """The layout in which networks are trained on a device: the same for all gradient methods."""
    return _FASTER.get(device.type, CHANNELS_LAST)


def put_into(network: nn.Module, layout: str) -> None:
    """Have a network compute in a layout, whatever that of its images."""
    memory_format = MEMORY_FORMATS[layout]
    network.to(memory_format=memory_format)  # type: ignore[call-overload]

    def convert(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *rest = given
        return images.contiguous(memory_format=memory_format), *rest

    network.register_forward_pre_hook(convert)
