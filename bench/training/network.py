"""An experiment's network, optimiser and learning-rate schedule: the published protocol."""

import random
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

import models
from bench.environment import CHANNELS_LAST, CONTIGUOUS, memory_format_of
from bench.experiment import LR_DROP, MOMENTUM, WEIGHT_DECAY, Experiment
from bench.plugins import state_kept

MEMORY_FORMATS = {CHANNELS_LAST: torch.channels_last, CONTIGUOUS: torch.contiguous_format}


def build_network(
    experiment: Experiment, device: torch.device, memory_format: str | None = None
) -> nn.Module:
    """Build the experiment's network with the initial weights of its seed, equal on every device.

    The network has the experiment's precision and a memory format of MEMORY_FORMATS; None is the
    device's, `environment.memory_format_of`. The random state is unchanged.
    """
    with state_kept():  # the user's own network may change settings, for itself alone
        torch.manual_seed(experiment.seed)
        random.seed(experiment.seed)
        np.random.seed(experiment.seed)
        network = models.build(
            experiment.network,
            method=experiment.method,
            n_steps=experiment.n_steps,
            gradient=experiment.gradient,
            num_classes=experiment.num_classes,
        )
    _set_memory_format(network, memory_format or memory_format_of(device))
    network.to(device)
    is_cast = experiment.precision == "bfloat16"
    return InAutocast(network, device, torch.bfloat16) if is_cast else network


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Every weight and buffer by name. A `state_dict` lacks buffers that are not persistent."""
    return dict(chain(network.named_parameters(), network.named_buffers()))


def make_optimizer(network: nn.Module, experiment: Experiment) -> Optimizer:
    """The published optimiser: SGD with momentum and weight decay; one fused kernel on CUDA."""
    parameters = list(network.parameters())
    return SGD(
        parameters,
        lr=experiment.lr,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        fused=True if parameters[0].device.type == "cuda" else None,
    )


def make_schedule(optimizer: Optimizer, experiment: Experiment) -> MultiStepLR:
    """The published schedule, stepped once after each epoch."""
    return MultiStepLR(optimizer, milestones=list(experiment.lr_drops), gamma=LR_DROP)


class InAutocast(nn.Module):
    """A network evaluated under autocast to a dtype. Weights and logits are float32."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self._device_type, self._dtype = device.type, dtype

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device_type, dtype=self._dtype):
            logits: Tensor = self.network(images)
        return logits.float()


def _set_memory_format(network: nn.Module, name: str) -> None:
    """Convert a network to a memory format; its images are converted before each forward pass."""
    memory_format = MEMORY_FORMATS[name]
    network.to(memory_format=memory_format)  # type: ignore[call-overload]

    def convert(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *rest = given
        return images.contiguous(memory_format=memory_format), *rest

    network.register_forward_pre_hook(convert)
