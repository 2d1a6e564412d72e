"""Base class of the gradient methods with torchdiffeq's adaptive solver."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from solvers.integrate import RightHandSide, checked
from solvers.methods import Tableau

MOST_EVALUATIONS = 10_000
"""Of the right-hand side in one solve."""


@dataclass(frozen=True)
class AdaptiveSteps:
    """A gradient method with torchdiffeq's dopri5 (Dormand & Prince's 5(4) pair) and step control.

    rtol and atol are the tolerances of each solve. Method and n_steps are not used: the forward
    pass differs from that of the methods with fixed steps, and its number of evaluations depends
    on the weights.
    """

    rtol: float = 1e-3
    atol: float = 1e-3

    is_adaptive = True
    family: ClassVar[str]

    @property
    def name(self) -> str:
        return f"{self.family}:rtol={self.rtol:g}:atol={self.atol:g}"

    @property
    def reference(self) -> str:
        """The exact gradient method with the same forward pass."""
        return f"backprop-rk45:atol={self.atol}:rtol={self.rtol}"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless both tolerances are positive numbers."""
        for tolerance in (self.rtol, self.atol):
            if not (math.isfinite(tolerance) and tolerance > 0):
                raise ValueError(f"{self.name}: rtol and atol must be positive numbers")

    def arguments(
        self, rhs: RightHandSide, z0: Tensor, evaluated: RightHandSide | None = None
    ) -> tuple["Controlled", dict[str, Any]]:
        """The right-hand side and the keyword arguments for torchdiffeq.

        evaluated: by default rhs; what to evaluate in its place, with the same values.
        """
        # An empty batch has no error estimate for the step control.
        scheme = "dopri5" if z0.numel() else "euler"
        how = {"method": scheme, "rtol": self.rtol, "atol": self.atol}
        return Controlled(self.name, rhs, evaluated or rhs), how


class Controlled(nn.Module):
    """A right-hand side whose solve ends with an error where the step underflows, the state is not
    finite, or there are more than MOST_EVALUATIONS; and whose steps are constants.

    torchdiffeq calls `callback_step` before each step, and `callback_step_adjoint` before each step
    of a backward solve. It would differentiate the choice of the first dt, and of no other.
    """

    def __init__(self, name: str, rhs: RightHandSide, evaluated: RightHandSide) -> None:
        super().__init__()
        self.rhs: Any = rhs
        self.evaluated: Any = evaluated
        self._name, self._steps = name, {"forward": 0, "backward": 0}

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return checked(self.evaluated(t, z), z)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("callback_"):
            return getattr(self.rhs, name)
        return super().__getattr__(name)

    def callback_step(self, t: Tensor, z: Tensor, dt: Tensor) -> None:
        self._check("forward", t, (z,), dt)
        dt.detach_()

    def callback_step_adjoint(self, t: Tensor, states: tuple[Tensor, ...], dt: Tensor) -> None:
        self._check("backward", t, states, dt)

    def _check(self, solve: str, t: Tensor, states: tuple[Tensor, ...], dt: Tensor) -> None:
        self._steps[solve] += 1
        if not all(torch.isfinite(z).all() for z in states):
            problem = "state is not finite"
        elif not t + dt > t:
            problem = "step underflows"
        elif 6 * self._steps[solve] > MOST_EVALUATIONS:
            problem = f"solve takes more than {MOST_EVALUATIONS} evaluations of the right-hand side"
        else:
            return
        at = abs(float(t))  # a backward solve counts its time from -1 to 0
        raise ValueError(
            f"{self._name}: the {problem}, in the {solve} solve at t = {at:.3g}: choose larger "
            "tolerances, or a gradient method with fixed steps"
        )
