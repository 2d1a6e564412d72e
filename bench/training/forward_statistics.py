"""BatchNorm's running statistics, updated in forward passes alone."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """Every BatchNorm with running statistics in a network, by its name there."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


class ForwardStatistics:
    """A second set of a network's running statistics, which forward passes alone update.

    A gradient method that evaluates the right-hand side in its backward pass updates the running
    statistics there too. On the CPU this set has the bits that they would have without that. It
    costs one reduction of each BatchNorm's input, and is dropped if the first backward pass leaves
    the running statistics unchanged.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = batch_norms(network)
        self._own: dict[str, Tensor] | None = {n: b.clone() for n, b in self._buffers()}
        self._after_forward: dict[str, Tensor] | None = None
        self._is_first = True
        self._is_recording = False
        for name, layer in self._layers.items():
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: self._update(name, layer, inputs[0])
            )

    @property
    def tensors(self) -> dict[str, Tensor] | None:
        """The second set, by the names of the network's buffers; None if it was dropped."""
        return self._own

    def restore(self, tensors: Mapping[str, Tensor] | None) -> None:
        """Continue from the `tensors` of an equal network's statistics, after its buffers."""
        if tensors is None or self._own is None:
            self._own, self._is_first = None, False
            return
        for name, tensor in self._own.items():
            tensor.copy_(tensors[name])
        # A run that stopped before its first step has not had its first backward pass.
        self._is_first = self._equals(self._own)

    def begin_forward(self) -> None:
        self._is_recording = self._own is not None

    def end_forward(self) -> None:
        self._is_recording = False
        if self._is_first:
            self._after_forward = {n: b.clone() for n, b in self._buffers()}

    def end_backward(self) -> None:
        if not self._is_first or self._after_forward is None:
            return
        before, self._is_first, self._after_forward = self._after_forward, False, None
        if self._equals(before):
            self._own = None

    def _update(self, name: str, layer: _BatchNorm, inputs: Tensor) -> None:
        if not self._is_recording or self._own is None or not layer.training:
            return
        count = self._own[f"{name}.num_batches_tracked"]
        count += 1
        torch.batch_norm_update_stats(
            inputs.detach(),
            self._own[f"{name}.running_mean"],
            self._own[f"{name}.running_var"],
            1 / float(count) if layer.momentum is None else layer.momentum,
        )

    def _equals(self, others: Mapping[str, Tensor]) -> bool:
        return all(torch.equal(others[name], buffer) for name, buffer in self._buffers())

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name, layer in self._layers.items():
            for key, buffer in layer.named_buffers(recurse=False):
                yield f"{name}.{key}", buffer
