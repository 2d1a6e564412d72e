"""The continuous adjoint on the states that the forward pass went through."""

from collections.abc import Sequence
from functools import partial
from math import isclose
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.checkpoint import checkpointed
from solvers.methods import METHODS, RightHandSide, Step, Tableau, advance, step_grid
from solvers.parameters import add, differentiate, edges
from solvers.proof import Checksum, checksum, require_same
from solvers.replay import Replay


class NodeStages:
    """The adjoint equation, solved backwards by the same scheme at states of the forward pass.

    An ablation: neither drift nor a state reconstructed inside a step is left of node's error, so
    that what remains is the inconsistency of the scheme. Stage i of the backward step from t_{n+1}
    to t_n has the time t_{n+1} - cᵢh, and takes the stage state of that time; where two stages have
    one time, in reversed order. A scheme without a stage at the step's end (Euler, RK2) takes the
    grid state z_{n+1} there, so Euler is node-grid: α₀ = α₁(I + ∂f/∂z(z₁)). A scheme whose times
    are not symmetric has no such states and is refused.

    For a smooth right-hand side the error of Euler is O(dt), that of RK2 O(dt²). RK4 and the 3/8
    rule have none: their discrete adjoint is the same scheme, backwards. So all of node's error
    with the 3/8 rule comes from the states. Each step's start is kept and its stages are run again;
    a stage is evaluated as in the forward pass, with its dropout, and the step's end as the next
    evaluation would be. Memory O(L·Nt) states, plus one for each stage and what one evaluation
    stores; time 2·s·Nt evaluations in the backward pass. Not for training: anode-steps has no error
    at the same memory.

    Source: ours; the equation is that of Chen et al., "Neural Ordinary Differential Equations",
    NeurIPS 2018, equations 4 and 5; which schemes are their own discrete adjoint:
    Hager, "Runge-Kutta methods in optimal control and the transformed adjoint system", Numer. Math.
    87 (2000).
    """

    name = "node-stages"
    is_capturable = True

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError, with a method that fits, unless the stage times are symmetric."""
        tableau = METHODS.resolve(method)
        if not _is_symmetric(tableau):
            fitting = [entry for entry in METHODS.values() if _is_symmetric(entry)]
            near = min(fitting, key=lambda entry: abs(entry.order - tableau.order))
            raise ValueError(
                f"{self.name} cannot use the method {tableau.name!r}: mirrored in the step, its "
                f"stage times are no stage times: choose {near.name!r}, or another gradient method"
            )

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)
        tableau = METHODS.resolve(method)
        there = step_grid(tableau, n_steps, z0.dtype, z0.device)
        back = step_grid(tableau, n_steps, z0.dtype, z0.device, backwards=True)
        z = z0
        for step, backward in zip(there, reversed(back), strict=True):
            again = partial(_adjoint_step, rhs, tableau, step, backward.times[0])
            z = checkpointed(partial(_advance, rhs, tableau, step), rhs, z, again)
        return z


def _advance(rhs: RightHandSide, tableau: Tableau, step: Step, z: Tensor) -> Tensor:
    return advance(rhs, z, tableau, step)


def _is_symmetric(tableau: Tableau) -> bool:
    """Whether the backward stages have the times of stages, or of the step's end."""
    known = [*tableau.times, *([] if _reaches_end(tableau) else [1.0])]
    return all(
        isclose(1 - c, found, abs_tol=1e-9)
        for c, found in zip(tableau.times, reversed(known), strict=False)
    )


def _reaches_end(tableau: Tableau) -> bool:
    return isclose(tableau.times[-1], 1)


class _Evaluation(NamedTuple):
    """One of the right-hand side: its inputs, all else it depends on, and the slope's checksum."""

    t: Tensor
    z: Tensor
    replay: Replay
    slope: Sequence[Checksum] | None


def _adjoint_step(
    rhs: RightHandSide,
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
    stages: list[_Evaluation] = []

    def evaluate(t: Tensor, z: Tensor) -> Tensor:
        before = Replay(rhs, z.device)
        slope = rhs(t.detach(), z)
        stages.append(_Evaluation(t, z, before, checksum([slope])))
        return slope

    with replay.again(), replay.first():
        z1 = advance(evaluate, z0.detach(), tableau, step)
        after = Replay(rhs, z0.device)
    require_same([z1], end)
    if not _reaches_end(tableau):
        stages.append(_Evaluation(end_time, z1, after, None))
    del z1
    slopes: list[Tensor] = []
    found: list[Tensor | None] = [None] * len(parameters)
    for i, weight in enumerate(tableau.update.weights):
        at = tableau.stages[i - 1].added_to(adjoint, slopes, step) if i else adjoint
        slope, parts = _products(rhs, stages.pop(), parameters, at)
        slopes.append(slope)
        if weight:
            part_of_step = step.dt * (weight * tableau.update.scale)
            parts = [None if part is None else part_of_step * part for part in parts]
            found = [add(total, part) for total, part in zip(found, parts, strict=True)]
    return (tableau.update.added_to(adjoint, slopes, step), *found)


def _products(
    rhs: RightHandSide, at: _Evaluation, parameters: Sequence[Tensor], adjoint: Tensor
) -> tuple[Tensor, list[Tensor | None]]:
    """(∂f/∂z)ᵀ and (∂f/∂θ)ᵀ times the adjoint, at one state of the forward pass."""
    with at.replay.again():
        z = at.z.detach().requires_grad_()
        slope = rhs(at.t.detach(), z)
    if at.slope is not None:
        require_same([slope], at.slope)
    adjoint, ends = adjoint.to(slope.dtype), edges([slope])
    del slope
    product, *parts = differentiate(ends, (z, *parameters), [adjoint])
    return torch.zeros_like(z) if product is None else product, parts
