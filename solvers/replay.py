"""Run a forward pass a second time, exactly. Whether it was the same, `solvers.proof` tells."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from solvers.parameters import named_tensors
from solvers.proof import InexactError


class Replay:
    """Everything that a forward pass of `rhs` depends on besides its inputs.

    Made just before the forward pass, it holds the random state, the autocast setting, the
    training flags and a copy of the buffers. `again` puts them back for the length of one
    computation, which then gives the same bits, and leaves no trace: afterwards the random state
    and the buffers (BatchNorm's running statistics among them) are what they were before it. It
    raises InexactError where a parameter is no longer the one that it was.
    """

    def __init__(self, rhs: Callable[..., Tensor], device: torch.device) -> None:
        self._rhs = rhs
        self._slots: list[tuple[Mapping[str, Any], str, Any]] = []
        self._states = [state._replace(buffers=_copies(state.buffers)) for state in _states(rhs)]
        self._device = device
        self._cpu_random = torch.get_rng_state()
        # Cannot be read while a CUDA graph is captured: whoever captures must not draw from it.
        readable = device.type == "cuda" and not torch.cuda.is_current_stream_capturing()
        self._device_random = torch.cuda.get_rng_state(device) if readable else None
        self._autocast = (
            torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type),
            torch.is_autocast_cache_enabled(),
        )

    @contextmanager
    def first(self) -> Iterator[None]:
        """The forward pass itself, without gradients.

        Autocast would otherwise cache weights that it casts here, where no graph is built, and
        serve them, with no gradient, to whoever uses the weight next.
        """
        with torch.no_grad(), self._as_cast(caches=False):
            yield
        self._slots = [
            (slots, name, value)
            for module, *_ in self._states
            for slots in (module._modules, module._parameters, vars(module))
            for name, value in slots.items()
            if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad)
        ]

    @contextmanager
    def stored(self) -> Iterator[None]:
        """The forward pass itself, with gradients: what `backprop` does."""
        with self._attributes(), _own_autocast_cache(), torch.enable_grad(), self._as_cast():
            yield

    @contextmanager
    def again(self) -> Iterator[None]:
        """The same forward pass once more, with gradients."""
        self.require_parameters()
        with self._random(), self._modules(), self.stored():
            yield

    def _as_cast(self, *, caches: bool = True) -> AbstractContextManager[object]:
        """Autocast as it was. Weights are cast where the graph sees it, as often as at first."""
        enabled, dtype, cached = self._autocast
        kind = self._device.type
        if not enabled and not torch.is_autocast_enabled(kind):
            # A context, even a disabled one, would keep the cache of a right-hand side that
            # enters autocast itself beyond the single evaluation.
            return nullcontext()
        return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=caches and cached)

    def require_parameters(self) -> None:
        """Raises InexactError unless the right-hand side has the submodules and parameters that it
        had at the end of its first pass."""
        for slots, name, value in self._slots:
            if slots.get(name) is not value:
                raise InexactError(
                    f"{name} of the right-hand side is another object in the backward pass than it "
                    "was in the forward pass: exchange it, or leave torch.func.functional_call, "
                    "after the backward pass, or choose the gradient method backprop"
                )

    @contextmanager
    def _random(self) -> Iterator[None]:
        on_device = self._device_random is not None
        with torch.random.fork_rng(devices=[self._device] if on_device else []):
            torch.set_rng_state(self._cpu_random)
            if self._device_random is not None:
                torch.cuda.set_rng_state(self._device_random, self._device)
            yield

    def _modules(self) -> AbstractContextManager[None]:
        return _put_back(self._states)

    @contextmanager
    def _attributes(self) -> Iterator[None]:
        """What modules keep of this computation in attributes, such as an activation to look at,
        they keep without its graph, which ends with the computation. The next solution would
        otherwise take it for an input that wants a gradient."""
        inputs = [*named_tensors(self._rhs).values()]
        yield
        for module, *_ in self._states:
            for name, value in vars(module).items():
                is_input = any(value is known for known in inputs)
                if isinstance(value, Tensor) and value.requires_grad and not is_input:
                    vars(module)[name] = value.detach()


def buffers_put_back(rhs: Callable[..., Tensor]) -> AbstractContextManager[None]:
    """Whatever is computed inside leaves no trace in the buffers of rhs."""
    return _put_back(_states(rhs))


class _State(NamedTuple):
    module: nn.Module
    training: bool
    buffers: dict[str, Tensor | None]


def _states(rhs: Callable[..., Tensor]) -> list[_State]:
    modules = rhs.modules() if isinstance(rhs, nn.Module) else ()
    return [_State(module, module.training, dict(module._buffers)) for module in modules]


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if b is None else b.clone() for name, b in buffers.items()}


@contextmanager
def _put_back(states: list[_State]) -> Iterator[None]:
    """Has modules be in these states, with copies of the buffers, and then in their own again."""
    own = [_State(module, module.training, dict(module._buffers)) for module, *_ in states]
    try:
        for module, training, buffers in states:
            module.training = training
            module._buffers.update(_copies(buffers))
        yield
    finally:
        for module, training, buffers in own:
            module.training = training
            module._buffers.update(buffers)


@contextmanager
def _own_autocast_cache() -> Iterator[None]:
    """Keeps casts made inside from being used outside, and the other way round."""
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()
