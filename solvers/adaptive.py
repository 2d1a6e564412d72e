"""torchdiffeq's adaptive solver, with the steps that it accepts kept to be run again."""

from typing import Any, NamedTuple

from torch import Tensor

# What torchdiffeq.odeint does with its arguments, and its solvers: it has no public name for them.
from torchdiffeq._impl.misc import _check_inputs
from torchdiffeq._impl.odeint import SOLVERS

from solvers.methods import RightHandSide
from solvers.replay import Replay
from solvers.with_torchdiffeq import unit_interval

MOST_EVALUATIONS = 10_000
"""Of the right-hand side in one solve."""


class AcceptedStep(NamedTuple):
    """A step: torchdiffeq's state before it, and all else that its evaluations depend on."""

    before: Any
    replay: Replay


class AdaptiveSolve:
    """One solve from t = 0 to 1 by torchdiffeq's own solver, with the steps that it accepts.

    name: that of the gradient method, for error messages.
    """

    def __init__(
        self, name: str, rhs: RightHandSide, z0: Tensor, *, rtol: float, atol: float
    ) -> None:
        self._name, self._rhs, self._counted = name, rhs, _Counted(name, rhs)
        self.whole = Replay(rhs, z0.device)
        self.accepted: list[AcceptedStep] = []
        _, self._func, _, times, *_, options, _, _ = _check_inputs(
            *(self._counted, z0, unit_interval(z0), rtol, atol, "dopri5", None, None),
            SOLVERS,
        )
        self._solver = SOLVERS["dopri5"](func=self._func, y0=z0, rtol=rtol, atol=atol, **options)
        self._times = times.to(self._solver.dtype)

    def solve(self) -> Tensor:
        """z(1).

        Raises ValueError where the step underflows, the state is not finite, or the solve takes
        more than MOST_EVALUATIONS.
        """
        self._solver._before_integrate(self._times)
        state = self._solver.rk_state
        while self._times[1] > state.t1:
            replay, before = Replay(self._rhs, state.y1.device), state
            state = self._step(before)
            if state.t1 > before.t1:  # else it was rejected
                # A later slope is a view of all slopes of its step, which it would keep.
                slope = before.f1.clone() if self.accepted else before.f1
                kept = before._replace(f1=slope, interp_coeff=[])
                self.accepted.append(AcceptedStep(kept, replay))
        return self._interpolate(state)

    def first_slope(self, z0: Tensor) -> Tensor:
        slope: Tensor = self._func(self._times[0], z0)
        return slope

    def again(self, index: int, z: Tensor, slope: Tensor) -> list[Tensor]:
        """What an accepted step results in: state and slope, or z(1) if it is the last one."""
        self._counted.evaluations = 0
        state = self._step(self.accepted[index].before._replace(y1=z, f1=slope))
        is_last = index == len(self.accepted) - 1
        return [self._interpolate(state)] if is_last else [state.y1, state.f1.clone()]

    def _step(self, before: Any) -> Any:
        try:
            return self._solver._adaptive_step(before)
        except AssertionError as error:
            problem = str(error).partition(" in ")[0]
            if problem not in ("underflow", "non-finite values"):
                raise
            what = "step underflows" if problem == "underflow" else "state is not finite"
            raise ValueError(
                f"{self._name}: the {what} at t = {float(before.t1):.3g}: choose larger "
                "tolerances, or a gradient method with fixed steps"
            ) from None

    def _interpolate(self, state: Any) -> Tensor:
        self._solver.rk_state = state
        z1: Tensor = self._solver._advance(self._times[1])
        self._solver.rk_state = None  # it has the graph
        return z1


class _Counted:
    """A right-hand side that may be evaluated MOST_EVALUATIONS times. It does not refer to the
    solve, which autograd's graph is to free without Python's collector of cycles."""

    def __init__(self, name: str, rhs: RightHandSide) -> None:
        self._name, self._rhs, self.evaluations = name, rhs, 0

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        self.evaluations += 1
        if self.evaluations > MOST_EVALUATIONS:
            raise ValueError(
                f"{self._name}: the solve takes more than {MOST_EVALUATIONS} evaluations of "
                "the right-hand side: choose larger tolerances, or a gradient method with fixed "
                "steps"
            )
        return self._rhs(t.detach().clone(), z)
