"""torchdyn: a fixed-step solve on a given grid."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.data.official import import_torchvision_datasets
from bench.peers.butcher import butcher
from bench.peers.extra import package
from solvers import METHODS, RightHandSide, Tableau
from solvers.methods import EULER, RK2, RK4
from solvers.with_torchdiffeq import last_state, unit_interval


@dataclass(frozen=True)
class Torchdyn:
    """A fixed-step solve by torchdyn, differentiated by autograd or by its continuous adjoint.

    torchdyn's "rk4" evaluates the second stage at the time of the first, which is left as it is.
    Other schemes are passed to it as a tableau. Its adjoint needs every parameter used and none
    frozen, and updates BatchNorm's running statistics in the backward pass as well.

    Source: Poli et al., "TorchDyn: Implicit Models and Neural Numerical Methods in PyTorch", 2021.
    """

    name: str
    reproduces: str

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raise ValueError when torchdyn is not installed or cannot use the scheme."""
        _scheme(METHODS.resolve(method), torch.float32)
        if self.reproduces == "node":
            _problems()

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        scheme = _scheme(METHODS.resolve(method), z0.dtype)
        times = unit_interval(z0, n_steps)
        if self.reproduces == "backprop":
            odeint = package("torchdyn.numerics").odeint
            _, solution = odeint(rhs, z0, times, scheme, save_at=times[-1:])
        else:
            # Its adjoint takes one step for each interval between the states that are saved. It
            # warns of tolerances, which fixed steps do not have, unless they are these.
            unused = dict.fromkeys(("atol", "rtol", "atol_adjoint", "rtol_adjoint"), 1e-3)
            problem = _problems().ODEProblem(rhs, scheme, sensitivity="adjoint", **unused)
            _, solution = problem(z0, times)
        return last_state(solution, z0)


def _scheme(tableau: Tableau, dtype: torch.dtype) -> Any:
    solvers = package("torchdyn.numerics.solvers.ode")
    for known, name in ((EULER, "euler"), (RK2, "midpoint"), (RK4, "rk4")):
        if tableau == known:
            return solvers.str_to_solver(name, dtype)
    if tableau.n_stages != 4:
        raise ValueError(
            f"torchdyn has no scheme {tableau.name!r} and a place for tableaus of four stages only"
        )
    scheme = solvers.str_to_solver("rk4", dtype)
    c, a, b = butcher(tableau)
    scheme.tableau = (
        torch.tensor(c[1:], dtype=dtype),
        [torch.tensor(row, dtype=dtype) for row in a[1:]],
        torch.tensor(b, dtype=dtype),
        torch.zeros(1, dtype=dtype),
    )
    return scheme


def _problems() -> Any:
    package("torchdyn")
    import_torchvision_datasets()  # torchdyn.core imports torchvision, by way of Lightning
    return package("torchdyn.core")


BACKPROP = Torchdyn("torchdyn", reproduces="backprop")
ADJOINT = Torchdyn("torchdyn-adjoint", reproduces="node")
