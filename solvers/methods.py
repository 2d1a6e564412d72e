"""Explicit Runge–Kutta methods as data; `solvers.integrate` steps them."""

import math
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
