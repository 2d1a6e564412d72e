"""Explicit Runge–Kutta methods as data; `solvers.integrate` steps them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from solvers.registry import Registry


@dataclass(frozen=True)
class Combination:
    """dt · (w₁k₁ + w₂k₂ + …) · scale, of the slopes k of a step.

    Weights and scale are separate because rounding depends on the order of operations, and the
    forward pass has to equal torchdiffeq's bit for bit. In mixed precision PyTorch rounds even
    dt · k and k · dt differently: dt_last asks for the latter.
    """

    weights: tuple[float, ...]
    scale: float = 1.0
    dt_last: bool = False

    @property
    def factors(self) -> tuple[float, ...]:
        """The factor of each slope."""
        return tuple(weight * self.scale for weight in self.weights)

    @cached_property
    def single(self) -> tuple[int, float] | None:
        """Index and factor of the only slope with a weight, if weight and scale are powers of two,
        so that multiplying by them rounds nothing."""
        weighted = [(i, weight) for i, weight in enumerate(self.weights) if weight]
        if len(weighted) != 1 or not is_power_of_two(self.scale):
            return None
        ((index, weight),) = weighted
        return (index, weight * self.scale) if is_power_of_two(weight) else None


def is_power_of_two(number: float) -> bool:
    return number != 0 and abs(math.frexp(number)[0]) == 0.5


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge–Kutta method.

    times: the stages' times c, as fractions of a step.
    stages: how stage i+2 combines the slopes before it (the first stage is the state itself).
    update: how a step combines all slopes.
    torchdiffeq: torchdiffeq's name of the same scheme, or None if it has none.

    Raises ValueError unless all sequences are tuples, there is a stage for each time but the first,
    which is 0, each stage's weights sum to its time, the update has a weight for each slope, which
    sum to 1, and torchdiffeq's scheme of that name is this one.
    """

    name: str
    order: int
    times: tuple[float, ...]
    stages: tuple[Combination, ...]
    update: Combination
    torchdiffeq: str | None

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ValueError(f"the tableau {self.name!r} {problem}")

    def _problem(self) -> str | None:
        combinations = (*self.stages, self.update)
        sequences = (self.times, self.stages, *(c.weights for c in combinations))
        if not all(isinstance(sequence, tuple) for sequence in sequences):
            return "needs tuples for its times, stages and weights"
        rows = [c.factors for c in combinations]
        if [len(row) for row in rows] != [*range(1, self.n_stages + 1)]:
            return (
                "needs a stage for each time but the first, with a weight for each slope before "
                "it, and an update with a weight for each slope"
            )
        sums, wanted = [0.0, *map(sum, rows)], [*self.times, 1.0]
        if not _are_close(sums, wanted):
            return (
                "is not consistent: the weights of its stages and of its update must sum to "
                f"{wanted}, and sum to {sums}"
            )
        own, library = [factor for row in rows for factor in row], self.torchdiffeq
        if library is not None and not _are_close(own, _TORCHDIFFEQ.get(library, ())):
            return (
                f"is not torchdiffeq's {library!r}: give the name of the same scheme, one of "
                f"{', '.join(_TORCHDIFFEQ)}, or None"
            )
        return None

    @property
    def n_stages(self) -> int:
        """Evaluations of the right-hand side in a step."""
        return len(self.times)


_TORCHDIFFEQ: dict[str, tuple[float, ...]] = {
    "euler": (1,),
    "midpoint": (1 / 2, 0, 1),
    "heun2": (1, 1 / 2, 1 / 2),
    "heun3": (1 / 3, 0, 2 / 3, 1 / 4, 0, 3 / 4),
    "rk4": (1 / 3, -1 / 3, 1, 1, -1, 1, 1 / 8, 3 / 8, 3 / 8, 1 / 8),
}
"""torchdiffeq's name of a scheme → factors of the slopes in each stage, then in the update."""


def _are_close(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and all(
        math.isclose(a, b, abs_tol=1e-12) for a, b in zip(found, expected, strict=True)
    )


EULER = Tableau("euler", 1, (0.0,), (), Combination((1.0,)), "euler")

# The explicit midpoint rule, the papers' "RK2".
_MIDPOINT = Combination((1.0,), 1 / 2, dt_last=True)
RK2 = Tableau("rk2", 2, (0.0, 1 / 2), (_MIDPOINT,), Combination((0.0, 1.0)), "midpoint")

# The classical method of Kutta (1901), the papers' "RK4". torchdiffeq has no such scheme.
RK4 = Tableau(
    "rk4",
    4,
    (0.0, 1 / 2, 1 / 2, 1.0),
    (Combination((1.0,), 1 / 2), Combination((0.0, 1.0), 1 / 2), Combination((0.0, 0.0, 1.0))),
    Combination((1.0, 2.0, 2.0, 1.0), 1 / 6),
    None,
)

# The 3/8 rule of Kutta (1901), which torchdiffeq calls "rk4".
RK4_38 = Tableau(
    "rk4_38",
    4,
    (0.0, 1 / 3, 2 / 3, 1.0),
    (Combination((1.0,), 1 / 3), Combination((-1 / 3, 1.0)), Combination((1.0, -1.0, 1.0))),
    Combination((1.0, 3.0, 3.0, 1.0), 1 / 8, dt_last=True),
    "rk4",
)

METHODS: Registry[Tableau] = Registry(
    "method",
    {tableau.name: tableau for tableau in (EULER, RK2, RK4, RK4_38)},
    check=lambda entry: None if isinstance(entry, Tableau) else "it is not a solvers.Tableau",
)
