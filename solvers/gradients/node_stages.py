"""The continuous adjoint at the stage states of the forward pass."""

from collections.abc import Sequence
from functools import partial
from math import isclose

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from solvers.checkpoint import CheckpointedEvaluations, checkpointed
from solvers.integrate import RightHandSide, Step, advance, step_grid
from solvers.methods import METHODS, Tableau
from solvers.parameters import add, differentiate, edges
from solvers.proof import Checksum, require_same
from solvers.replay import Replay


class NodeStages:
    """The adjoint equation, solved backwards by the same scheme at states of the forward pass.

    An ablation: node's error without drift and without the reconstruction of stage states, so that
    the inconsistency of the scheme alone is left. Stage i of the backward step from t_{n+1} to t_n
    has the time t_{n+1} - cᵢh, and takes the forward stage state of that time (in reversed order
    where two stages have one time). A scheme without a stage at the end of the step (Euler, RK2)
    takes z_{n+1} there; Euler is thus node-grid. A scheme whose times are not symmetric is refused.

    For a smooth right-hand side the error of Euler is O(dt), that of RK2 O(dt²). RK4 and the 3/8
    rule have none, since their discrete adjoint is the same scheme, backwards. Each stage is
    evaluated as in the forward pass, with its dropout, and z_{n+1} as the next evaluation would be.
    Memory O(L·Nt) states, plus one for each stage of a step and what one evaluation stores. The
    backward pass evaluates f twice for each stage, and once more a step where z_{n+1} is no stage.
    Not for training: anode-steps has the same memory and no error.

    Source: ours. The equation is that of Chen et al., "Neural Ordinary Differential Equations",
    NeurIPS 2018, equations 4 and 5; schemes that are their own discrete adjoint: Hager,
    "Runge-Kutta methods in optimal control and the transformed adjoint system", Numer. Math. 87
    (2000).
    """

    name = "node-stages"
    leaves_statistics = True
    is_capturable = True

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError, with a method that fits, unless the stage times are symmetric."""
        tableau = METHODS.resolve(method)
        if not _is_symmetric(tableau):
            fitting = [entry for entry in METHODS.values() if _is_symmetric(entry)]
            near = min(fitting, key=lambda entry: abs(entry.order - tableau.order))
            raise ValueError(
                f"{self.name} cannot use the method {tableau.name!r}, whose stage times are not "
                f"symmetric in the step: choose {near.name!r}, or another gradient method"
            )

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        steps = step_grid(tableau, n_steps, z0.dtype, z0.device)
        backwards = step_grid(tableau, n_steps, z0.dtype, z0.device, backwards=True)
        z = z0
        for step, backward in zip(steps, reversed(backwards), strict=True):
            one_step = partial(advance, tableau=tableau, steps=(step,))
            adjoint = partial(_adjoint_step, tableau, step, backward.times[0])
            z = checkpointed(one_step, CheckpointedEvaluations(rhs), z, adjoint)
        return z


def _is_symmetric(tableau: Tableau) -> bool:
    """Return whether each backward stage has the time of a stage, or of the step's end."""
    known = tableau.times if _reaches_end(tableau) else (*tableau.times, 1.0)
    pairs = zip(tableau.times, reversed(known), strict=False)
    return all(isclose(1 - c, found, abs_tol=1e-9) for c, found in pairs)


def _reaches_end(tableau: Tableau) -> bool:
    return isclose(tableau.times[-1], 1)


def _adjoint_step(
    tableau: Tableau,
    step: Step,
    end_time: Tensor,
    replay: Replay,
    z0: Tensor,
    parameters: Sequence[Tensor],
    end: Sequence[Checksum],
    adjoint: Tensor,
) -> tuple[Tensor | None, ...]:
    """The adjoint at the start of a step, and the step's part of the parameters' gradients."""
    stages: list[tuple[Tensor, list[GradientEdge]]] = []
    found: list[Tensor | None] = [None] * len(parameters)
    weights = iter(tableau.update.weights)

    def keep(t: Tensor, z: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            slope = rhs(t, z)
        stages.append((z, edges([slope])))
        return slope.detach()

    def product(t: Tensor, adjoint: Tensor) -> Tensor:
        """(∂f/∂z)ᵀ times the adjoint; adds the stage's part (∂f/∂θ)ᵀ times it to those found."""
        z, ends = stages.pop()
        in_state, *parts = differentiate(ends, (z, *parameters), [adjoint])
        if weight := next(weights):
            factor = step.dt * (weight * tableau.update.scale)
            for i, part in enumerate(parts):
                found[i] = found[i] if part is None else add(found[i], factor * part)
        return torch.zeros_like(z) if in_state is None else in_state

    with replay.again() as rhs, torch.no_grad():
        z1 = advance(keep, z0, tableau, (step,))
        if not _reaches_end(tableau):
            keep(end_time, z1)
    require_same([z1], end)
    return (advance(product, adjoint, tableau, (step,)), *found)
