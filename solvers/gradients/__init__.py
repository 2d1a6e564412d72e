"""Gradient methods: how dL/dz0 and dL/dθ of an ODE block are computed. One file each."""

from typing import Any, Protocol

from torch import Tensor

from solvers.gradients.adaptive.anode_rk45 import AnodeRK45
from solvers.gradients.adaptive.backprop_rk45 import BackpropRK45
from solvers.gradients.adaptive.node_rk45 import NodeRK45
from solvers.gradients.anode import Anode
from solvers.gradients.anode_auto.method import AnodeAuto
from solvers.gradients.anode_revolve import AnodeRevolve
from solvers.gradients.anode_steps import AnodeSteps
from solvers.gradients.backprop import Backprop
from solvers.gradients.backprop_torchdiffeq import BackpropTorchdiffeq
from solvers.gradients.mixed import Mixed
from solvers.gradients.node import Node
from solvers.gradients.node_stages import NodeStages
from solvers.gradients.reversible import Reversible
from solvers.gradients.symplectic import Symplectic
from solvers.integrate import RightHandSide
from solvers.methods import Tableau
from solvers.registry import Registry

EXACTNESS = ("exact", "up to summation", "inexact")
"""exact: the reference's gradient bit for bit. up to summation: that in z0 bit for bit, and that in
the parameters up to the order of summation. inexact, the default: another gradient."""


class GradientMethod(Protocol):
    """Interface of a gradient method; see docs/extend.md.

    It may also have `check(method, n_steps)`, which raises ValueError, saying what to do, for a
    combination that it cannot do; and state these facts, each false or absent by default:

        label                   its name in figures and tables, where it is not `name`
        reference               name of the method whose gradient its own is compared with:
                                "backprop" by default, or another with the same forward pass
        exactness               one of EXACTNESS: how far its gradient may be from the reference's.
                                The regression check holds the method to what it states
        leaves_statistics       its backward pass leaves BatchNorm's running statistics alone
        is_adaptive             it chooses its steps by an error estimate, so rounding may change
                                their number, and results differ between machines
        learns_from_first_pass  only from the second pass through a network on all passes are alike
        is_capturable           it never has the host wait for the device, so a training step can
                                be recorded as a CUDA graph
        reads_constants         it is capturable, except that the host reads, in the same order in
                                every step, what is computed from tensors marked `mark_constant`
    """

    @property
    def name(self) -> str:
        """Under which it is recorded, parameters included."""

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        """z(1), differentiable in z0 and in every parameter of rhs that requires a gradient."""


def exactness(method: Any) -> str:
    """The exactness that a gradient method states, one of EXACTNESS."""
    return getattr(method, "exactness", "inexact")


def reference(gradient: str | GradientMethod) -> str:
    """Name of the method whose gradient that of `gradient` is compared with."""
    named: str = getattr(GRADIENTS.resolve(gradient), "reference", "backprop")
    return named


def _lack(entry: Any) -> str | None:
    if not callable(getattr(entry, "solve", None)):
        return "it has no method solve(rhs, z0, method, n_steps)"
    if isinstance(entry, type):
        return "it is a class: name an instance of it"
    if not isinstance(getattr(entry, "name", None), str):
        return "it has no attribute name"
    if exactness(entry) not in EXACTNESS:
        return f"its exactness is none of {', '.join(EXACTNESS)}"
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
        "mixed": Mixed(),
        "reversible": Reversible(),
        "node": Node(grid=False, frozen=False),
        "node-grid": Node(grid=True, frozen=False),
        "node-frozen": Node(grid=False, frozen=True),
        "node-grid-frozen": Node(grid=True, frozen=True),
        "node-stages": NodeStages(),
        "node-rk45": NodeRK45(),
        "anode-rk45": AnodeRK45(),
        "backprop-rk45": BackpropRK45(),
        "backprop-torchdiffeq": BackpropTorchdiffeq(),
    },
    check=_lack,
)
