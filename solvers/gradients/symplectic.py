"""A checkpoint for each evaluation: one evaluation's graph at a time."""

from torch import Tensor

from solvers.checkpoint import CheckpointedEvaluations
from solvers.gradients.anode_revolve import AnodeRevolve
from solvers.gradients.anode_steps import AnodeSteps
from solvers.integrate import RightHandSide
from solvers.methods import Tableau


class Symplectic(AnodeRevolve):
    """Runs a step again without a graph, then differentiates its evaluations from the last to the
    first, each with a graph of its own.

    With stages Yᵢ, coefficients a, b and the adjoint λ of the step's end: κᵢ = h bᵢ λ +
    h Σ_{j>i} aⱼᵢ μⱼ, μᵢ = J(Yᵢ)ᵀ κᵢ, and λ + Σ μᵢ is the adjoint of the step's start. Autograd
    computes these sums: the graph of a step holds its linear combinations, which store no state,
    and one checkpoint for each evaluation. A weight bᵢ of 0 is therefore no special case.

    The backward pass evaluates f twice for each stage. Memory O(L·Nt) states, plus two
    for each stage of a step and what one evaluation stores; with m the steps are checkpointed as in
    anode-revolve, O(L) + O(m) states. Not for Euler, where anode-steps stores less; not where the
    graph of a whole step fits.

    Source: Matsubara, Miyatake, Yaguchi, "Symplectic Adjoint Method for Exact Gradient of Neural
    ODE with Minimal Memory", NeurIPS 2021, section 4 and algorithms 1 and 2.
    """

    family = "symplectic"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError as anode-revolve with this m; without m no schedule is needed."""
        if self.m is not None:
            super().check(method, n_steps)

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        evaluated = CheckpointedEvaluations(rhs)
        if self.m is None:
            return AnodeSteps().solve(evaluated, z0, method, n_steps)
        return super().solve(evaluated, z0, method, n_steps)
