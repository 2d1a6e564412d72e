"""One checkpoint for each time step, one step recomputed at a time."""

from torch import Tensor

from solvers.checkpoint import checkpointed
from solvers.integrate import RightHandSide, Step, advance, step_grid
from solvers.methods import METHODS, Tableau


class AnodeSteps:
    """Stores the state at every time step; the backward pass runs one step again at a time.

    Exact: the gradient in z0 is backprop's bit for bit, that in the parameters up to the order in
    which the steps' contributions are summed. Memory O(L·Nt) states plus what one step stores;
    time one extra forward pass. Not for many blocks of many steps: there the states add up, and
    anode or anode-revolve stores fewer.

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

            def one_step(rhs: RightHandSide, z: Tensor, step: Step = step) -> Tensor:
                return advance(rhs, z, tableau, (step,))

            z = checkpointed(one_step, rhs, z)
        return z
