"""Explicit Runge–Kutta methods as data, and the one loop that steps them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby, pairwise

import torch
from torch import Tensor

from solvers.registry import Registry

RightHandSide = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Combination:
    """dt · (w₁k₁ + w₂k₂ + …) · scale.

    Weights and scale are kept apart because rounding depends on the order of operations, and the
    forward pass has to equal torchdiffeq's bit for bit. In mixed precision PyTorch rounds even
    dt · k and k · dt differently: dt_last asks for the latter.
    """

    weights: tuple[float, ...]
    scale: float = 1.0
    dt_last: bool = False

    def of(self, slopes: list[Tensor], dt: Tensor) -> Tensor:
        total = None
        terms = ((weight, slope) for weight, slope in zip(self.weights, slopes, strict=True))
        for weight, group in groupby(terms, key=lambda term: term[0]):
            if weight == 0:
                continue
            part = _sum([slope for _, slope in group])
            if total is None:
                total = part if weight == 1 else weight * part
            elif weight == 1:
                total = total + part
            elif weight == -1:
                total = total - part
            else:
                total = total + weight * part
        assert total is not None, "a combination needs a weight that is not zero"
        increment = total * dt if self.dt_last else dt * total
        return increment if self.scale == 1 else increment * self.scale

    def added_to(self, z: Tensor, slopes: list[Tensor], step: "Step") -> Tensor:
        """z + dt · (w₁k₁ + w₂k₂ + …) · scale.

        One pass over memory instead of three where there is one slope and all its factors are
        powers of two: multiplying by those rounds nothing, so the bits are the same.
        """
        if self._only is not None and step.length is not None and _is_power_of_two(step.length):
            index, factor = self._only
            return torch.add(z, slopes[index], alpha=factor * step.length)
        return z + self.of(slopes, step.dt)

    @cached_property
    def _only(self) -> tuple[int, float] | None:
        """The one slope with a weight and its factor, where that is a power of two."""
        weighted = [(i, weight) for i, weight in enumerate(self.weights) if weight]
        if len(weighted) != 1 or not all(map(_is_power_of_two, (weighted[0][1], self.scale))):
            return None
        ((index, weight),) = weighted
        return index, weight * self.scale


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge–Kutta method.

    times: the stages' times c, as fractions of a step.
    stages: how stage i+2 combines the slopes before it (the first stage is the state itself).
    update: how a step combines all slopes.
    torchdiffeq: the name that torchdiffeq has for the same scheme, or None if it has none.

    Raises ValueError unless there is a stage for each time but the first, which is 0, each stage's
    weights sum to its time, and the update has a weight for each slope, which sum to 1.
    """

    name: str
    order: int
    times: tuple[float, ...]
    stages: tuple[Combination, ...]
    update: Combination
    torchdiffeq: str | None

    def __post_init__(self) -> None:
        rows = [(), *(c.weights for c in self.stages), self.update.weights]
        if [len(row) for row in rows] != [*range(self.n_stages + 1)]:
            raise ValueError(
                f"the tableau {self.name!r} needs a stage for each time but the first, with a "
                "weight for each slope before it, and an update with a weight for each slope"
            )
        sums = [0.0, *(sum(c.weights) * c.scale for c in (*self.stages, self.update))]
        wanted = [*self.times, 1.0]
        if not all(math.isclose(*pair, abs_tol=1e-12) for pair in zip(sums, wanted, strict=True)):
            raise ValueError(
                f"the tableau {self.name!r} is not consistent: the weights of its stages and of "
                f"its update must sum to {wanted}, and sum to {sums}"
            )

    @property
    def n_stages(self) -> int:
        """Evaluations of the right-hand side in a step."""
        return len(self.times)


EULER = Tableau("euler", 1, (0.0,), (), Combination((1.0,)), "euler")

# The explicit midpoint rule, the papers' "RK2".
RK2 = Tableau(
    "rk2",
    2,
    (0.0, 1 / 2),
    (Combination((1.0,), 1 / 2, dt_last=True),),
    Combination((0.0, 1.0)),
    "midpoint",
)

# The classical method of Kutta (1901), the papers' "RK4". torchdiffeq has no such scheme.
RK4 = Tableau(
    "rk4",
    4,
    (0.0, 1 / 2, 1 / 2, 1.0),
    (
        Combination((1.0,), 1 / 2),
        Combination((0.0, 1.0), 1 / 2),
        Combination((0.0, 0.0, 1.0)),
    ),
    Combination((1.0, 2.0, 2.0, 1.0), 1 / 6),
    None,
)

# The 3/8 rule of Kutta (1901), which torchdiffeq calls "rk4".
RK4_38 = Tableau(
    "rk4_38",
    4,
    (0.0, 1 / 3, 2 / 3, 1.0),
    (
        Combination((1.0,), 1 / 3),
        Combination((-1 / 3, 1.0)),
        Combination((1.0, -1.0, 1.0)),
    ),
    Combination((1.0, 3.0, 3.0, 1.0), 1 / 8, dt_last=True),
    "rk4",
)

METHODS: Registry[Tableau] = Registry(
    "method",
    {tableau.name: tableau for tableau in (EULER, RK2, RK4, RK4_38)},
    check=lambda entry: None if isinstance(entry, Tableau) else "it is not a solvers.Tableau",
)


def integrate(rhs: RightHandSide, z0: Tensor, tableau: Tableau, n_steps: int) -> Tensor:
    """z(1) of dz/dt = rhs(t, z), z(0) = z0, by `n_steps` equal steps of `tableau`.

    Differentiable by autograd, which then stores every stage. z0 and z(1) have the same shape,
    precision and memory format. Raises ValueError when rhs does not keep the shape, or changes t.
    """
    return advance_all(rhs, z0, tableau, step_grid(tableau, n_steps, z0.dtype, z0.device))


@dataclass(frozen=True)
class Step:
    """One step of the time grid: its stage times and its length, as scalar tensors; and both as
    the numbers that these hold, or no numbers where every operation is to be taken by itself, as
    for a state that is no tensor."""

    times: tuple[Tensor, ...]
    dt: Tensor
    length: float | None = None
    numbers: tuple[float, ...] = ()


def advance(rhs: RightHandSide, z: Tensor, tableau: Tableau, step: Step) -> Tensor:
    """The state after one step."""
    return advance_all(rhs, z, tableau, (step,))


def advance_all(rhs: RightHandSide, z: Tensor, tableau: Tableau, steps: Sequence[Step]) -> Tensor:
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
    """Evaluations begin … end - 1 of the right-hand side over these steps, the stages counted one
    after another.

    carried, and what is returned: the state, and behind it the slopes of the step that is not over.
    """
    z, *slopes = carried
    for evaluation in range(begin, end):
        index, stage = divmod(evaluation, tableau.n_stages)
        step = steps[index]
        at = tableau.stages[stage - 1].added_to(z, slopes, step) if stage else z
        slopes.append(_slope(rhs, step, stage, at))
        del at  # nothing but autograd is to keep it
        if len(slopes) == tableau.n_stages:
            z, slopes = tableau.update.added_to(z, slopes, step), []
    return (z, *slopes)


def time_grid(n_steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The n_steps + 1 grid times from 0 to 1, in the state's precision as torchdiffeq has them."""
    return torch.linspace(0, 1, n_steps + 1, dtype=dtype, device=device)


@cache
def step_grid(
    tableau: Tableau,
    n_steps: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    backwards: bool = False,
) -> tuple[Step, ...]:
    """The steps from 0 to 1, as torchdiffeq takes them: dt is the difference of two grid times.

    With backwards, the steps from 1 to 0, whose dt is negative.

    Made once for each key, since on a device each of these scalars would cost a kernel launch, and
    kept, since a CUDA graph reads them where they are.
    """
    # A grid first needed under inference_mode must serve training afterwards.
    with torch.inference_mode(False), torch.no_grad():
        grid = time_grid(n_steps, dtype, torch.device("cpu"))
        grid = grid.flip(0) if backwards else grid
        steps = []
        for start, end in pairwise(grid):
            dt = end - start
            times = [start if c == 0 else end if c == 1 else start + dt * c for c in tableau.times]
            numbers = tuple(map(float, times))
            there = tuple(t.to(device) for t in times)
            steps.append(Step(there, dt.to(device), float(dt), numbers))
        return tuple(steps)


def _slope(rhs: RightHandSide, step: Step, stage: int, z: Tensor) -> Tensor:
    t = step.times[stage]
    if not step.numbers:
        slope = rhs(t, z)
    else:
        # Every solve has the same times: what is made of this one, its shape or its requires_grad,
        # is the right-hand side's, and its value is put back.
        version, is_changed = t._version, False
        try:
            slope = rhs(t.detach(), z)
        finally:
            if is_changed := t._version != version:
                with torch.no_grad():
                    t.fill_(step.numbers[stage])
        if is_changed:
            raise ValueError(
                "the right-hand side must not change t in place: t = 2 * t, not t *= 2"
            )
    if slope.shape != z.shape:
        raise ValueError(
            f"the right-hand side must keep the state's shape: it turned {tuple(z.shape)} "
            f"into {tuple(slope.shape)}"
        )
    return slope


def _sum(slopes: list[Tensor]) -> Tensor:
    total = slopes[0]
    for slope in slopes[1:]:
        total = total + slope
    return total


def _is_power_of_two(number: float) -> bool:
    return number != 0 and abs(math.frexp(number)[0]) == 0.5
