"""What the gradient methods that call torchdiffeq share."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from solvers.constants import mark_constant
from solvers.methods import METHODS, RightHandSide, Tableau, time_grid
from solvers.replay import buffers_put_back


def scheme(name: str, method: str | Tableau) -> str:
    """torchdiffeq's name of a method, for the gradient method `name`.

    Raises ValueError, with a method that fits, when torchdiffeq does not have the scheme.
    """
    tableau = METHODS.resolve(method)
    if tableau.torchdiffeq is None:
        fitting = [entry for entry in METHODS.values() if entry.torchdiffeq]
        near = min(fitting, key=lambda entry: abs(entry.order - tableau.order))
        raise ValueError(
            f"{name} cannot use the method {tableau.name!r}, which torchdiffeq does not have: "
            f"choose {near.name!r} (what torchdiffeq calls {near.torchdiffeq!r}) instead, "
            "or another gradient method"
        )
    return tableau.torchdiffeq


def unit_interval(z0: Tensor, n_steps: int = 1) -> Tensor:
    """n_steps + 1 times from 0 to 1, in the state's precision and on its device."""
    return _times(n_steps, z0.dtype, z0.device).clone()


def n_equal_steps(z0: Tensor, n_steps: int) -> dict[str, object]:
    """The options that make torchdiffeq take exactly so many steps from 0 to 1.

    step_size=1/n would take a tiny extra step for some n.
    """
    return _grid(_times(n_steps, z0.dtype, z0.device))


def n_equal_steps_back(z0: Tensor, n_steps: int) -> dict[str, object]:
    """The same from 1 to 0."""
    return _grid(_times(n_steps, z0.dtype, z0.device, backwards=True))


def _grid(times: Tensor) -> dict[str, object]:
    # A right-hand side is given views of it, which it may change.
    return {"grid_constructor": lambda f, z, t: times.clone()}


@cache
def _times(
    n_steps: int, dtype: torch.dtype, device: torch.device, *, backwards: bool = False
) -> Tensor:
    """Made once, since on a device each would cost a copy from the host: to be cloned there. Kept,
    since a CUDA graph reads them where they are."""
    # A grid first needed under inference_mode must serve training afterwards.
    with torch.inference_mode(False), torch.no_grad():
        times = time_grid(n_steps, dtype, torch.device("cpu"))
        return mark_constant((times.flip(0) if backwards else times).to(device))


def last_state(solution: Tensor, z0: Tensor) -> Tensor:
    """z(1) of a solution, in the memory format of z0.

    torchdiffeq returns contiguous memory. The layers behind the block would round differently if
    they did not get the layout that every other gradient method gives them.
    """
    return solution[-1].contiguous(memory_format=_memory_format(z0))


@contextmanager
def frozen_afterwards(rhs: RightHandSide) -> Iterator[nn.Module]:
    """The right-hand side, to be solved forwards with inside. What evaluates it later, the backward
    solve, leaves no trace in its buffers."""
    frozen = _Frozen(rhs)
    yield frozen
    frozen.forward_is_over = True


class _Frozen(nn.Module):
    def __init__(self, rhs: RightHandSide) -> None:
        super().__init__()
        self.rhs = rhs
        self.forward_is_over = False

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        if not self.forward_is_over:
            return self.rhs(t, z)
        with buffers_put_back(self.rhs):
            return self.rhs(t, z)


def _memory_format(z: Tensor) -> torch.memory_format:
    for memory_format in (torch.channels_last, torch.channels_last_3d):
        dimensions = 4 if memory_format == torch.channels_last else 5
        if z.dim() == dimensions and z.is_contiguous(memory_format=memory_format):
            return memory_format
    return torch.contiguous_format
