"""What the gradient methods that call torchdiffeq share."""

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
import torchdiffeq
from torch import Tensor

from solvers.constants import mark_constant
from solvers.methods import METHODS, RightHandSide, Tableau, time_grid
from solvers.parameters import (
    edges,
    other_leaves,
    require_none,
    trainable_parameters,
    wants_gradient,
)
from solvers.replay import buffers_put_back


class OfTorchdiffeq:
    """A gradient method that calls torchdiffeq with a scheme that it has, in fixed steps."""

    name: str
    is_capturable = True
    reads_constants = True

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError when torchdiffeq does not have the scheme."""
        scheme(self.name, method)


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


def n_equal_steps(z0: Tensor, n_steps: int, *, backwards: bool = False) -> dict[str, object]:
    """The options that make torchdiffeq take exactly so many steps from 0 to 1, or from 1 to 0.

    step_size=1/n would take a tiny extra step for some n.
    """
    times = _times(n_steps, z0.dtype, z0.device, backwards)
    # A right-hand side is given views of it, which it may change.
    return {"grid_constructor": lambda f, z, t: times.clone()}


@cache
def _times(
    n_steps: int, dtype: torch.dtype, device: torch.device, backwards: bool = False
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


def adjoint(
    rhs: RightHandSide, z0: Tensor, times: Tensor, *, frozen: bool = False, **how: object
) -> Tensor:
    """z(1) by `torchdiffeq.odeint_adjoint`, with the tensors of rhs that require a gradient.

    frozen: the backward solve leaves no trace in the buffers of rhs. The first evaluation of the
    backward solve raises InexactError where rhs depends on what it does not show.
    """
    parameters = trainable_parameters(rhs)
    watched = _Watched(rhs, parameters, z0)
    solution = torchdiffeq.odeint_adjoint(
        watched, z0, times, adjoint_params=tuple(parameters), **how
    )
    watched.freezes = frozen
    return last_state(solution, z0)


class _Watched:
    """A right-hand side whose graph is looked at once, in an evaluation that there is anyway.

    That is the first of the backward solve; or of the forward solve, where nothing that is known
    wants a gradient, so that there would be no backward solve.
    """

    def __init__(self, rhs: RightHandSide, parameters: list[Tensor], z0: Tensor) -> None:
        self._rhs, self._parameters, self.freezes, self._is_known = rhs, parameters, False, False
        self._in_forward = torch.is_grad_enabled() and not wants_gradient(z0, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rhs, name)  # torchdiffeq calls what is named callback_…

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        looks = not self._is_known and (torch.is_grad_enabled() or self._in_forward)
        with (
            buffers_put_back(self._rhs) if self.freezes else nullcontext(),
            torch.enable_grad() if looks else nullcontext(),
        ):
            slope = self._rhs(t, z)
        if looks:
            self._is_known = True
            known = [x for x in (t, z, *self._parameters) if x.requires_grad]
            others = other_leaves(edges([slope]), known)
            slope = slope.detach() if self._in_forward else slope
            require_none(others)
        return slope


def _memory_format(z: Tensor) -> torch.memory_format:
    for memory_format in (torch.channels_last, torch.channels_last_3d):
        dimensions = 4 if memory_format == torch.channels_last else 5
        if z.dim() == dimensions and z.is_contiguous(memory_format=memory_format):
            return memory_format
    return torch.contiguous_format
