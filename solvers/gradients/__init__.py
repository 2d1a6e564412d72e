"""Gradient methods: how dL/dz0 and dL/dθ of an ODE block are computed. One file each."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from solvers.gradients.anode import Anode
from solvers.gradients.anode_auto.method import AnodeAuto
from solvers.gradients.anode_revolve import AnodeRevolve
from solvers.gradients.anode_rk45 import AnodeRK45
from solvers.gradients.anode_steps import AnodeSteps
from solvers.gradients.backprop import Backprop
from solvers.gradients.backprop_torchdiffeq import BackpropTorchdiffeq
from solvers.gradients.node import Node
from solvers.gradients.node_frozen import NodeFrozen
from solvers.gradients.node_grid import NodeGrid
from solvers.gradients.node_grid_frozen import NodeGridFrozen
from solvers.gradients.node_rk45 import NodeRK45
from solvers.gradients.node_stages import NodeStages
from solvers.gradients.reversible import Reversible
from solvers.gradients.symplectic import Symplectic
from solvers.methods import RightHandSide, Tableau
from solvers.registry import Registry


@runtime_checkable
class GradientMethod(Protocol):
    """What a gradient method has to be; see README, "Adding a gradient method".

    It may also have `check(method, n_steps)`, which raises ValueError, saying what to do, when it
    cannot do that combination; `learns_from_first_pass`, true when only the second pass through a
    network is what the later ones are; `is_capturable`, true when it never has the host wait for
    the device, so that a training step can be recorded as a CUDA graph; and `reads_constants`, true
    when it is capturable but that the host reads, in the same order in every step, what is computed
    from tensors that `solvers.constants.mark_constant` has marked.
    """

    @property
    def name(self) -> str:
        """Under which it is recorded, parameters included."""

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        """z(1), differentiable in z0 and in every parameter of rhs that requires a gradient."""


def _lack(entry: Any) -> str | None:
    if not callable(getattr(entry, "solve", None)):
        return "it has no method solve(rhs, z0, method, n_steps)"
    if isinstance(entry, type):
        return "it is a class: name an instance of it"
    if not isinstance(getattr(entry, "name", None), str):
        return "it has no attribute name"
    return None


GRADIENTS: Registry[GradientMethod] = Registry(
    "gradient method",
    {
        "backprop": Backprop(),
        "anode": Anode(),
        "anode-auto": AnodeAuto(),
        "anode-steps": AnodeSteps(),
        "anode-revolve": AnodeRevolve(),
        "symplectic": Symplectic(),
        "reversible": Reversible(),
        "node": Node(),
        "node-grid": NodeGrid(),
        "node-stages": NodeStages(),
        "node-frozen": NodeFrozen(),
        "node-grid-frozen": NodeGridFrozen(),
        "node-rk45": NodeRK45(),
        "anode-rk45": AnodeRK45(),
        "backprop-torchdiffeq": BackpropTorchdiffeq(),
    },
    check=_lack,
)
