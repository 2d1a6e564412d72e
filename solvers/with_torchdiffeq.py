"""Base class and helpers of the gradient methods that call torchdiffeq."""

from contextlib import nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from solvers.integrate import RightHandSide, checked, time_grid
from solvers.methods import METHODS, Tableau
from solvers.parameters import (
    edges,
    foreign_tensors,
    require_none,
    trainable_parameters,
    wants_gradient,
)
from solvers.proof import first_order
from solvers.replay import buffers_put_back


@cache
def library() -> ModuleType:
    """torchdiffeq, imported when it is first used: with SciPy it takes half a second."""
    with torch.inference_mode(False):  # the tensors that it creates must also serve training
        import torchdiffeq
    return torchdiffeq


class FixedSteps:
    """A gradient method that calls torchdiffeq with one of its schemes, in fixed steps."""

    is_capturable = True
    reads_constants = True

    @property
    def name(self) -> str:
        raise NotImplementedError

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError when torchdiffeq does not have the scheme."""
        self.scheme(method)

    def scheme(self, method: str | Tableau) -> str:
        """torchdiffeq's name of a method.

        Raises ValueError, with a method that fits, when torchdiffeq does not have the scheme.
        """
        tableau = METHODS.resolve(method)
        if tableau.torchdiffeq is None:
            fitting = [entry for entry in METHODS.values() if entry.torchdiffeq]
            near = min(fitting, key=lambda entry: abs(entry.order - tableau.order))
            raise ValueError(
                f"{self.name} cannot use the method {tableau.name!r}, which torchdiffeq does not "
                f"have: choose {near.name!r} (what torchdiffeq calls {near.torchdiffeq!r}) "
                "instead, or another gradient method"
            )
        return tableau.torchdiffeq


def unit_interval(z0: Tensor, n_steps: int = 1) -> Tensor:
    """n_steps + 1 times from 0 to 1, in the state's precision and on its device."""
    return _times(n_steps, z0.dtype, z0.device).clone()


def n_equal_steps(z0: Tensor, n_steps: int, *, backwards: bool = False) -> dict[str, object]:
    """The options with which torchdiffeq takes exactly n_steps steps from 0 to 1, or from 1 to 0.

    step_size=1/n_steps would add a tiny step for some n_steps.
    """
    times = _times(n_steps, z0.dtype, z0.device, backwards)
    # A clone, since the right-hand side receives views of it and may change them.
    return {"grid_constructor": lambda f, z, t: times.clone()}


@cache
def _times(
    n_steps: int, dtype: torch.dtype, device: torch.device, backwards: bool = False
) -> Tensor:
    # Cached, since on a device each would cost a copy from the host, and since a CUDA graph reads
    # them at their addresses. A grid first needed under inference_mode must also serve training.
    with torch.inference_mode(False), torch.no_grad():
        return mark_constant(time_grid(n_steps, dtype, backwards=backwards).to(device))


def last_state(solution: Tensor, z0: Tensor) -> Tensor:
    """z(1) of a solution, in the memory format of z0. torchdiffeq returns contiguous memory, with
    which the layers after the block would round differently."""
    formats = (torch.channels_last, torch.channels_last_3d)
    own = (each for each in formats if z0.is_contiguous(memory_format=each))
    return solution[-1].contiguous(memory_format=next(own, torch.contiguous_format))


def adjoint(
    rhs: RightHandSide, z0: Tensor, times: Tensor, *, frozen: Any = False, **how: Any
) -> Tensor:
    """z(1) by `torchdiffeq.odeint_adjoint`, with the tensors of rhs that require a gradient.

    frozen: the backward solve leaves the buffers of rhs unchanged. Raises InexactError, in the
    backward solve, if rhs depends on another tensor that requires a gradient.
    """
    parameters = trainable_parameters(rhs)
    checked = _Checked(rhs, parameters, z0)
    solution = library().odeint_adjoint(checked, z0, times, adjoint_params=tuple(parameters), **how)
    checked.is_frozen = frozen
    z1 = last_state(solution, z0)
    if z1.requires_grad:
        z1.register_hook(first_order(lambda gradient: None))
    return z1


class _Checked:
    """A right-hand side whose graph is checked in every evaluation of the backward solve; or of the
    forward solve, if neither z0 nor a parameter requires a gradient: there is a graph, then, only
    if there is an error."""

    def __init__(self, rhs: RightHandSide, parameters: list[Tensor], z0: Tensor) -> None:
        self._rhs, self._parameters, self.is_frozen = rhs, parameters, False
        self._in_forward = torch.is_grad_enabled() and not wants_gradient(z0, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rhs, name)  # torchdiffeq calls attributes named callback_…

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        checks = self._in_forward or torch.is_grad_enabled()
        with (
            buffers_put_back(self._rhs) if self.is_frozen else nullcontext(),
            torch.set_grad_enabled(checks),
        ):
            slope = checked(self._rhs(t, z), z)
        if checks:
            known = [x for x in (t, z, *self._parameters) if x.requires_grad]
            others = foreign_tensors(edges([slope]), known)
            slope = slope.detach() if self._in_forward else slope
            require_none(others)
        return slope


def mark_constant(tensor: Tensor) -> Tensor:
    """The tensor itself, marked as having these values in every training step, until it is changed
    in place. A step in which the host reads only what is computed from such tensors can be captured
    as a CUDA graph: see bench/training/host_reads.py."""
    if not tensor.is_inference():  # PyTorch does not count their changes
        tensor.is_constant = tensor._version  # type: ignore[attr-defined]
    return tensor


def is_constant(tensor: Tensor) -> bool:
    marked = getattr(tensor, "is_constant", None)
    return marked is not None and marked == tensor._version
