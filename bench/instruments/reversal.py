"""The error of an initial value that is reconstructed by solving backward in time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers import Tableau
from solvers.gradients.reversible import CoupledPair, Reversible
from solvers.integrate import Step, advance, step_grid
from solvers.with_torchdiffeq import library, unit_interval

State = Any
"""A tensor, or a NumPy array or scalar, whose steps take less time: 3 µs for one of Euler."""

Rhs = Callable[[Any, State], State]

FAILURES = {
    "underflow in dt": "step underflow",
    "max_num_steps exceeded": "step limit",
    "non-finite values": "not finite",
}
"""Message of torchdiffeq's assertion when it gives up → status in the record."""


@dataclass(frozen=True)
class Reversal:
    """A problem solved forward from t = 0 to 1 (output), then backward (reconstruction).

    rho: ‖reconstruction - z0‖₂ / ‖z0‖₂, Equation 6 of the ANODE paper (Gholami et al. 2019);
    infinite if status is not "ok". n_steps, n_steps_backward: accepted steps. nfe: evaluations of
    the right-hand side in both directions.
    """

    output: State
    reconstruction: State
    rho: float
    status: str
    n_steps: int
    n_steps_backward: int
    nfe: int


def fixed_steps(rhs: Rhs, z0: State, tableau: Tableau, n_steps: int) -> Reversal:
    """Solve forward and backward in n equal steps of an explicit Runge–Kutta method."""
    counted = _Counted(rhs)
    states = [z0]
    with np.errstate(all="ignore"), torch.no_grad():
        for backwards in (False, True):
            z = states[-1]
            for step in _steps(tableau, n_steps, z0, backwards=backwards):
                z = advance(counted, z, tableau, (step,))
            states.append(z)
    return _reversal(states, (n_steps, n_steps), counted.evaluations)


def reversible_pair(rhs: Rhs, z0: State, tableau: Tableau, n_steps: int) -> Reversal:
    """Solve forward by `solvers.gradients.reversible` over a method, and undo it algebraically.

    y of the pair (y, z) is the solution: output and reconstruction are y.
    """
    counted = _Counted(rhs)
    forward = tuple(_steps(tableau, n_steps, z0, backwards=False))
    backward = tuple(_steps(tableau, n_steps, z0, backwards=True))
    pair = CoupledPair(counted, tableau, Reversible.coupling, forward, backward[::-1])
    with np.errstate(all="ignore"), torch.no_grad():
        y, z = pair.solve(z0)
        before, _ = pair.undo(y, z)
    return _reversal((z0, y, before), (n_steps, n_steps), counted.evaluations)


def adaptive_steps(rhs: Rhs, z0: State, rtol: float, atol: float, max_steps: int) -> Reversal:
    """Solve forward and backward by torchdiffeq's dopri5, the Dormand–Prince pair called RK45.

    max_steps: the largest number of steps, accepted or not, in each direction.
    """
    counted = _Counted(rhs if isinstance(z0, Tensor) else _of_tensors(rhs))
    start = torch.as_tensor(z0)
    states, accepted, status = [start], [0], "ok"
    times = unit_interval(start)
    try:
        for interval in (times, times.flip(0)):
            with np.errstate(all="ignore"), torch.no_grad():
                solution = library().odeint(
                    counted,
                    states[-1],
                    interval,
                    rtol=rtol,
                    atol=atol,
                    method="dopri5",
                    options={"max_num_steps": max_steps},
                )
            states.append(solution[-1])
            accepted.append(counted.accepted)
    except AssertionError as error:
        status = next((s for text, s in FAILURES.items() if text in str(error)), "")
        if not status:
            raise
        states += [torch.full_like(start, torch.nan)] * (3 - len(states))
        accepted.append(counted.accepted)
    n_steps = accepted[1], accepted[-1] - accepted[1]
    return _reversal(states, n_steps, counted.evaluations, status)


class _Counted:
    """A right-hand side that counts its evaluations and the steps that torchdiffeq accepts."""

    def __init__(self, rhs: Rhs) -> None:
        self._rhs = rhs
        self.evaluations = 0
        self.accepted = 0

    def __call__(self, t: Any, z: State) -> State:
        self.evaluations += 1
        return self._rhs(t, z)

    def callback_accept_step(self, t: Tensor, z: Tensor, dt: Tensor) -> None:
        self.accepted += 1


def _of_tensors(rhs: Rhs) -> Rhs:
    return lambda t, z: torch.as_tensor(rhs(t.numpy(), z.numpy()))


def _steps(tableau: Tableau, n_steps: int, z0: State, *, backwards: bool) -> Iterator[Step]:
    if isinstance(z0, Tensor):
        yield from step_grid(tableau, n_steps, z0.dtype, z0.device, backwards=backwards)
        return
    # One after another: a million steps are never in memory together.
    grid: Any = np.linspace(0, 1, n_steps + 1, dtype=z0.dtype)
    for start, end in pairwise(grid[::-1] if backwards else grid):
        dt = end - start
        yield Step(tuple(start if c == 0 else start + c * dt for c in tableau.times), dt)


def _reversal(
    states: Sequence[State], n_steps: tuple[int, int], evaluations: int, status: str = "ok"
) -> Reversal:
    z0, output, reconstruction = states
    start, end = _array(z0), _array(reconstruction)
    with np.errstate(all="ignore"):
        rho = float(np.linalg.norm(end - start) / np.linalg.norm(start))
    if not np.isfinite(rho):
        rho, status = np.inf, "not finite" if status == "ok" else status
    return Reversal(output, reconstruction, rho, status, *n_steps, evaluations)


def _array(z: State) -> np.ndarray:
    values = z.cpu().numpy() if isinstance(z, Tensor) else z
    return np.asarray(values, dtype=np.float64)
