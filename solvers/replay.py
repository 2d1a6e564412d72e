"""Run a forward pass a second time, exactly."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from solvers.parameters import attributes


@dataclass(frozen=True)
class _Autocast:
    device_type: str
    enabled: bool
    dtype: torch.dtype
    cache_enabled: bool

    @classmethod
    def current(cls, device_type: str) -> "_Autocast":
        return cls(
            device_type,
            torch.is_autocast_enabled(device_type),
            torch.get_autocast_dtype(device_type),
            torch.is_autocast_cache_enabled(),
        )

    def context(self, *, cache_enabled: bool) -> AbstractContextManager[object]:
        if not self.enabled and not torch.is_autocast_enabled(self.device_type):
            # A context, even a disabled one, would keep the cache of a right-hand side that
            # enters autocast itself beyond the single evaluation.
            return nullcontext()
        return torch.autocast(
            self.device_type, dtype=self.dtype, enabled=self.enabled, cache_enabled=cache_enabled
        )


class Replay:
    """Everything that a forward pass of `rhs` depends on besides its inputs.

    Made just before the forward pass, it holds the random state, the autocast setting, the
    training flags and a copy of the buffers. `again` puts them back for the length of one
    computation, which then gives the same bits, and leaves no trace: afterwards the random state
    and the buffers (BatchNorm's running statistics among them) are what they were before it.
    """

    def __init__(self, rhs: Callable[..., Tensor], device: torch.device) -> None:
        modules = rhs.modules() if isinstance(rhs, nn.Module) else ()
        self._training = [(module, module.training) for module in modules]
        self._buffers = _copies(_buffers(rhs))
        self._device = device
        self._cpu_random = torch.get_rng_state()
        # Cannot be read while a CUDA graph is captured: whoever captures must not draw from it.
        readable = device.type == "cuda" and not torch.cuda.is_current_stream_capturing()
        self._device_random = torch.cuda.get_rng_state(device) if readable else None
        self._autocast = _Autocast.current(device.type)

    @contextmanager
    def first(self) -> Iterator[None]:
        """The forward pass itself, without gradients.

        Autocast would otherwise cache weights that it casts here, where no graph is built, and
        serve them, with no gradient, to whoever uses the weight next.
        """
        with torch.no_grad(), self._autocast.context(cache_enabled=False):
            yield

    @contextmanager
    def stored(self) -> Iterator[None]:
        """The forward pass itself, with gradients: what `backprop` does."""
        autocast = self._autocast.context(cache_enabled=self._autocast.cache_enabled)
        with self._attributes(), _own_autocast_cache(), torch.enable_grad(), autocast:
            yield

    @contextmanager
    def again(self) -> Iterator[None]:
        """The same forward pass once more, with gradients."""
        # The weights must be cast where the graph sees it, and as often as in the original.
        autocast = self._autocast.context(cache_enabled=self._autocast.cache_enabled)
        with (
            self._random(),
            self._modules(),
            self._attributes(),
            _own_autocast_cache(),
            torch.enable_grad(),
            autocast,
        ):
            yield

    @contextmanager
    def _random(self) -> Iterator[None]:
        on_device = self._device_random is not None
        with torch.random.fork_rng(devices=[self._device] if on_device else []):
            torch.set_rng_state(self._cpu_random)
            if self._device_random is not None:
                torch.cuda.set_rng_state(self._device_random, self._device)
            yield

    @contextmanager
    def _modules(self) -> Iterator[None]:
        training_now = [(module, module.training) for module, _ in self._training]
        try:
            for module, training in self._training:
                module.training = training
            with _in_their_place(_copies(self._buffers)):
                yield
        finally:
            for module, training in training_now:
                module.training = training

    @contextmanager
    def _attributes(self) -> Iterator[None]:
        """What modules keep of this computation in attributes, such as an activation to look at,
        they keep without its graph, which ends with the computation. The next solution would
        otherwise take it for an input that wants a gradient."""
        modules = [module for module, _ in self._training]
        inputs = [value for module in modules for _, value in attributes(module)]
        yield
        for module in modules:
            for name, value in attributes(module):
                if all(value is not known for known in inputs):
                    vars(module)[name] = value.detach()


@contextmanager
def buffers_put_back(rhs: Callable[..., Tensor]) -> Iterator[None]:
    """Whatever is computed inside leaves no trace in the buffers of rhs."""
    with _in_their_place(_copies(_buffers(rhs))):
        yield


_Buffers = list[tuple[nn.Module, str, Tensor]]


def _buffers(rhs: Callable[..., Tensor]) -> _Buffers:
    modules = rhs.modules() if isinstance(rhs, nn.Module) else ()
    return [(m, name, b) for m in modules for name, b in m._buffers.items() if b is not None]


def _copies(buffers: _Buffers) -> _Buffers:
    return [(module, name, buffer.clone()) for module, name, buffer in buffers]


@contextmanager
def _in_their_place(buffers: _Buffers) -> Iterator[None]:
    """Has modules use these buffers instead of their own."""
    own = [(module, name, module._buffers[name]) for module, name, _ in buffers]
    try:
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
        yield
    finally:
        for module, name, before in own:
            module._buffers[name] = before


@contextmanager
def _own_autocast_cache() -> Iterator[None]:
    """Keeps casts made inside from being used outside, and the other way round."""
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()
