"""torchode: every image of the batch is an initial value problem of its own, solved in parallel."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.peers.butcher import butcher
from bench.peers.extra import package
from solvers import METHODS, RightHandSide, Tableau
from solvers.methods import EULER


@dataclass(frozen=True)
class Torchode:
    """A fixed-step solve by torchode, differentiated by autograd or by its continuous adjoint.

    The state (batch, channels, height, width) is flattened to (batch, features) in its memory
    order. Schemes other than Euler's are passed to ExplicitRungeKutta as a tableau. The adjoint is
    JointBacksolveAdjoint: BacksolveAdjoint differentiates image by image, but with BatchNorm in
    training mode an image depends on its batch. The backward pass updates BatchNorm's running
    statistics as well.

    Source: Lienen, Günnemann, "torchode: A Parallel ODE Solver for PyTorch", 2022.
    """

    name: str
    reproduces: str

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raise ValueError when torchode is not installed."""
        package("torchode")

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        torchode = package("torchode")
        tableau = METHODS.resolve(method)
        flat = _Flattened(rhs, z0)
        term = torchode.ODETerm(flat, with_stats=False)
        scheme, controller = _scheme(tableau), torchode.FixedStepController()
        start = torch.zeros(len(z0), dtype=z0.dtype, device=z0.device)
        # Summed up, steps of 1 / n may fall short of the end by rounding, and ask for one more.
        # These are longer by as much, and torchode cuts the last one where it would go beyond.
        dt = torch.full_like(start, 1 / n_steps + torch.finfo(z0.dtype).eps)
        problem = torchode.InitialValueProblem(flat.flatten(z0), start, start + 1)
        if self.reproduces == "backprop":
            solver = torchode.AutoDiffAdjoint(scheme, controller)
            solution = solver.solve(problem, term=term, dt0=dt)
        else:  # all images are one problem, with one step
            solver = torchode.JointBacksolveAdjoint(term, scheme, controller)
            solution = solver.solve(problem, dt0=dt[:1])
        return flat.unflatten(solution.ys[:, -1])


class _Flattened(nn.Module):
    """rhs on states (batch, features)."""

    def __init__(self, rhs: RightHandSide, z0: Tensor) -> None:
        super().__init__()
        self.rhs = rhs
        last = torch.channels_last
        channels_last = z0.dim() == 4 and z0.is_contiguous(memory_format=last)
        self.order = (0, 2, 3, 1) if channels_last else tuple(range(z0.dim()))
        self.back = (0, 3, 1, 2) if channels_last else self.order
        self.shape = z0.permute(self.order).shape

    def flatten(self, z: Tensor) -> Tensor:
        return z.permute(self.order).flatten(1)

    def unflatten(self, z: Tensor) -> Tensor:
        return z.reshape(self.shape).permute(self.back)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        # All images are at the same time.
        return self.flatten(self.rhs(t[0], self.unflatten(z)))


def _scheme(tableau: Tableau) -> Any:
    torchode = package("torchode")
    if tableau == EULER:
        return torchode.Euler(None)
    runge_kutta = package("torchode.single_step_methods.runge_kutta")
    explicit: Any = runge_kutta.ExplicitRungeKutta
    linear = package("torchode.interpolation").LinearInterpolation

    class Scheme(explicit):
        def convergence_order(self) -> int:
            return tableau.order

        def build_interpolation(self, data: Any) -> Any:
            # Evaluated at the end of the last step alone.
            return linear(data.t0, data.dt, data.y0, data.y1)

    c, a, b = butcher(tableau)
    coefficients = runge_kutta.ButcherTableau.from_lists(
        c=list(c), a=[list(row) for row in a], b=list(b), b_err=[0.0] * len(b)
    )
    return Scheme(None, coefficients)


BACKPROP = Torchode("torchode", reproduces="backprop")
ADJOINT = Torchode("torchode-adjoint", reproduces="node")
