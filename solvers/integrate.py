"""The loop that steps an explicit Runge–Kutta method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import groupby, pairwise
from operator import add

import torch
from torch import Tensor

from solvers.methods import Combination, Tableau, is_power_of_two

RightHandSide = Callable[[Tensor, Tensor], Tensor]


def integrate(rhs: RightHandSide, z0: Tensor, tableau: Tableau, n_steps: int) -> Tensor:
    """z(1) of dz/dt = rhs(t, z), z(0) = z0, by `n_steps` equal steps of `tableau`.

    Differentiable by autograd, which then stores every stage. z0 and z(1) have the same shape,
    precision and memory format. Raises ValueError when rhs does not keep the shape, or changes t.
    """
    return advance(rhs, z0, tableau, step_grid(tableau, n_steps, z0.dtype, z0.device))


@dataclass(frozen=True)
class Step:
    """One step of the time grid: its stage times and its length dt as scalar tensors, and the same
    as Python numbers.

    Without numbers each operation is computed separately, as for a state that is not a tensor.
    """

    times: tuple[Tensor, ...]
    dt: Tensor
    length: float | None = None
    numbers: tuple[float, ...] = ()


def advance(rhs: RightHandSide, z: Tensor, tableau: Tableau, steps: Sequence[Step]) -> Tensor:
    """The state after these steps."""
    (z,) = evaluate(rhs, (z,), tableau, steps, 0, len(steps) * tableau.n_stages)
    return z


def evaluate(
    rhs: RightHandSide,
    carried: tuple[Tensor, ...],
    tableau: Tableau,
    steps: Sequence[Step],
    begin: int,
    end: int,
) -> tuple[Tensor, ...]:
    """Evaluate the right-hand side from number `begin` to `end` - 1, counted over all steps.

    carried, and the result: the state, followed by the slopes of the unfinished step.
    """
    z, *slopes = carried
    for evaluation in range(begin, end):
        index, stage = divmod(evaluation, tableau.n_stages)
        step = steps[index]
        at = _add(z, tableau.stages[stage - 1], slopes, step) if stage else z
        slopes.append(_slope(rhs, step, stage, at))
        del at  # only autograd may keep it
        if len(slopes) == tableau.n_stages:
            z, slopes = _add(z, tableau.update, slopes, step), []
    return (z, *slopes)


def time_grid(n_steps: int, dtype: torch.dtype, *, backwards: bool) -> Tensor:
    """The n_steps + 1 grid times from 0 to 1 or from 1 to 0, on the CPU; in the state's precision,
    as in torchdiffeq."""
    times = torch.linspace(0, 1, n_steps + 1, dtype=dtype, device="cpu")
    return times.flip(0) if backwards else times


@cache
def step_grid(
    tableau: Tableau,
    n_steps: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    backwards: bool = False,
) -> tuple[Step, ...]:
    """The steps from 0 to 1, as in torchdiffeq: dt is the difference of two grid times.

    With backwards, the steps from 1 to 0, whose dt is negative.

    Cached, since on a device each of these scalars would cost a kernel launch, and since a CUDA
    graph reads them at their addresses.
    """
    # A grid first needed under inference_mode must also serve training.
    with torch.inference_mode(False), torch.no_grad():
        steps = []
        for start, end in pairwise(time_grid(n_steps, dtype, backwards=backwards)):
            dt = end - start
            times = [start if c == 0 else end if c == 1 else start + dt * c for c in tableau.times]
            numbers = tuple(map(float, times))
            on_device = tuple(t.to(device) for t in times)
            steps.append(Step(on_device, dt.to(device), float(dt), numbers))
        return tuple(steps)


def _add(z: Tensor, combination: Combination, slopes: list[Tensor], step: Step) -> Tensor:
    """z + dt · (w₁k₁ + w₂k₂ + …) · scale."""
    if not any(combination.weights):
        return z
    if combination.single and step.length is not None and is_power_of_two(step.length):
        # One pass over memory instead of three, with the same bits.
        index, factor = combination.single
        return torch.add(z, slopes[index], alpha=factor * step.length)
    return z + _increment(combination, slopes, step)


def _increment(combination: Combination, slopes: list[Tensor], step: Step) -> Tensor:
    # A function of its own, so that its sums are freed before the increment is added to the state.
    total = None
    terms = zip(combination.weights, slopes, strict=True)
    for weight, group in groupby(terms, key=lambda term: term[0]):
        if weight == 0:
            continue
        part = reduce(add, [slope for _, slope in group])
        if total is None:
            total = part if weight == 1 else weight * part
        elif weight == 1:
            total = total + part
        elif weight == -1:
            total = total - part
        else:
            total = total + weight * part
    assert total is not None, "a combination without weights has no increment"
    increment = total * step.dt if combination.dt_last else step.dt * total
    return increment if combination.scale == 1 else increment * combination.scale


def checked(slope: Tensor, z: Tensor) -> Tensor:
    """The slope that a right-hand side returned for the state z. Raises ValueError unless it is a
    tensor of the state's shape."""
    if not isinstance(slope, Tensor):
        raise ValueError(
            f"the right-hand side must return a tensor of the state's shape, not "
            f"{type(slope).__name__}"
        )
    if slope.shape != z.shape:
        raise ValueError(
            f"the right-hand side must keep the state's shape: it turned {tuple(z.shape)} "
            f"into {tuple(slope.shape)}"
        )
    return slope


def _slope(rhs: RightHandSide, step: Step, stage: int, z: Tensor) -> Tensor:
    t = step.times[stage]
    if not step.numbers:
        return rhs(t, z)  # of a state that is not a tensor
    # All solves share these times: a change of shape or requires_grad affects only the detached
    # tensor, and a changed value is restored.
    version, is_changed = t._version, False
    try:
        slope = rhs(t.detach(), z)
    finally:
        if is_changed := t._version != version:
            with torch.no_grad():
                t.fill_(step.numbers[stage])
    if is_changed:
        raise ValueError("the right-hand side must not change t in place: t = 2 * t, not t *= 2")
    return checked(slope, z)
