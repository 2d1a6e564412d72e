"""The arithmetic of an experiment."""

import torch
from torch import Tensor, nn

from bench.errors import UsageError

PRECISIONS = ("float32", "tf32", "bfloat16")
"""float32: all of it, TF32 nowhere. tf32: float32 whose convolutions and matrix products a CUDA
device multiplies with ten bits of mantissa. bfloat16: autocast, weights and states in float32."""


def check(precision: str, device: torch.device) -> None:
    """Raises UsageError when the device does not have the precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32 needs a CUDA device: use float32 or bfloat16")


class InBfloat16(nn.Module):
    """A network evaluated under bfloat16 autocast. Its logits are float32."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self._device_type = device.type

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()
