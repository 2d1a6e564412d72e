"""One checkpoint for each time step, one step recomputed at a time."""

from functools import partial

from torch import Tensor

from solvers.checkpoint import checkpointed
from solvers.integrate import RightHandSide, advance, step_grid
from solvers.methods import METHODS, Tableau


class AnodeSteps:
    """Stores the state at every time step; the backward pass runs one step again at a time.

    Memory O(L·Nt) states plus what one step stores; time one extra forward pass. Not for many
    blocks of many steps, where anode or anode-revolve stores fewer states.

    Source: Gholami, Keutzer, Biros, "ANODE", IJCAI 2019, section V.
    """

    name = "anode-steps"
    exactness = "up to summation"
    leaves_statistics = True
    is_capturable = True

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        z = z0
        for step in step_grid(tableau, n_steps, z0.dtype, z0.device):
            z = checkpointed(partial(advance, tableau=tableau, steps=(step,)), rhs, z)
        return z
