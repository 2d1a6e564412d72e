"""Run a forward pass a second time, exactly. Whether it was the same, `solvers.proof` decides."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from solvers.integrate import RightHandSide, checked
from solvers.parameters import is_parameter, mark_computed, tensor_attributes
from solvers.proof import InexactError


class Replay:
    """Everything that a forward pass of `rhs` depends on besides its inputs: the random state, the
    autocast setting, the training flags and a copy of the buffers, as they are before it.

    `again` restores them for one computation, which then gives the same bits, and undoes what that
    changes of the random state and the buffers. Each context yields the right-hand side to use.
    """

    def __init__(self, rhs: RightHandSide, device: torch.device) -> None:
        self._rhs = rhs
        self._slots: list[tuple[Mapping[str, Any], str, Any]] = []
        self._states = [s._replace(buffers=_copies(s.buffers)) for s in _states(rhs)]
        self._device = device
        self._cpu_random = torch.get_rng_state()
        # Cannot be read while a CUDA graph is captured: a captured step must not draw from it.
        readable = device.type == "cuda" and not torch.cuda.is_current_stream_capturing()
        self._device_random = torch.cuda.get_rng_state(device) if readable else None
        self._autocast = (
            torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type),
            torch.is_autocast_cache_enabled(),
        )

    def renewed(self) -> "Replay":
        """A replay of a forward pass that begins now."""
        return Replay(self._rhs, self._device)

    @contextmanager
    def first(self) -> Iterator[RightHandSide]:
        """The forward pass itself, of which only values are stored.

        Each evaluation builds its graph and frees it. So a tensor that the right-hand side computes
        from its parameters and keeps for a later evaluation has a gradient in the second pass.
        """
        # Autocast would cache a weight with the graph of one evaluation.
        with torch.no_grad(), self._as_cast(caches=False), self._attributes(mark_computed):
            yield self._evaluate
        self._slots = [
            (slots, name, value)
            for module, *_ in self._states
            for slots in (module._modules, module._parameters, vars(module))
            for name, value in slots.items()
            if isinstance(value, nn.Module) or (isinstance(value, Tensor) and is_parameter(value))
        ]

    @contextmanager
    def stored(self) -> Iterator[RightHandSide]:
        """The forward pass itself, with gradients, as in `backprop`."""
        with self._with_gradients(), self._attributes(mark_computed):
            yield self._rhs

    @contextmanager
    def again(self) -> Iterator[RightHandSide]:
        """The same forward pass once more, with gradients.

        Raises InexactError if a parameter or a submodule was exchanged.
        """
        self.require_parameters()
        with (
            self._random(),
            _restored(self._states),
            self._with_gradients(),
            self._attributes(Tensor.detach),  # so that none keeps the graph
        ):
            yield self._rhs

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

    def _evaluate(self, t: Tensor, z: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            z.register_post_accumulate_grad_hook(_refuse)
            return checked(self._rhs(t, z), z).detach()

    @contextmanager
    def _with_gradients(self) -> Iterator[None]:
        torch.clear_autocast_cache()  # casts made inside are not used outside, nor the reverse
        try:
            with torch.enable_grad(), self._as_cast():
                yield
        finally:
            torch.clear_autocast_cache()

    def _as_cast(self, *, caches: bool = True) -> AbstractContextManager[object]:
        """Autocast as it was in the forward pass."""
        enabled, dtype, cached = self._autocast
        kind = self._device.type
        if not enabled and not torch.is_autocast_enabled(kind):
            # A context, even a disabled one, would keep the cache of a right-hand side that
            # enters autocast itself beyond the single evaluation.
            return nullcontext()
        return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=caches and cached)

    @contextmanager
    def _random(self) -> Iterator[None]:
        on_device = self._device_random is not None
        with torch.random.fork_rng(devices=[self._device] if on_device else []):
            torch.set_rng_state(self._cpu_random)
            if self._device_random is not None:
                torch.cuda.set_rng_state(self._device_random, self._device)
            yield

    @contextmanager
    def _attributes(self, release: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Release the tensors that the right-hand side computes inside and keeps in attributes, so
        that the next solve does not take them for parameters."""
        before = {id(tensor): tensor for _, _, tensor in tensor_attributes(self._rhs)}
        yield
        for attributes, name, tensor in tensor_attributes(self._rhs):
            if tensor.requires_grad and id(tensor) not in before:
                attributes[name] = release(tensor)


def buffers_put_back(rhs: RightHandSide) -> AbstractContextManager[None]:
    """Computations inside leave the buffers of rhs unchanged."""
    return _restored(_states(rhs))


def _refuse(state: Tensor) -> None:
    raise InexactError(
        "the loss depends on a tensor that the right-hand side computed and kept, whose gradient "
        "ends at the state of one evaluation: let it depend on the solution alone, or choose the "
        "gradient method backprop"
    )


class _State(NamedTuple):
    module: nn.Module
    training: bool
    buffers: dict[str, Tensor | None]


def _states(rhs: RightHandSide) -> list[_State]:
    modules = rhs.modules() if isinstance(rhs, nn.Module) else ()
    return [_State(module, module.training, dict(module._buffers)) for module in modules]


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if b is None else mark_computed(b.clone()) for name, b in buffers.items()}


@contextmanager
def _restored(states: list[_State]) -> Iterator[None]:
    """Modules in these states, with copies of the buffers; afterwards in their own states again."""
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
