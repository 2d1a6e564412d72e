"""Binomial checkpointing inside an ODE block: at most m states at a time."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from solvers.binomial import is_available, run_schedule, schedule
from solvers.checkpoint import checkpointed
from solvers.integrate import RightHandSide, advance, step_grid
from solvers.methods import METHODS, Tableau


@dataclass(frozen=True)
class AnodeRevolve:
    """Stores only the block's input; the backward pass stores at most m states, input included.

    Of all such schedules it takes the one that runs the fewest steps again,
    `solvers.binomial.recomputed_steps(Nt, m)`. m of None means ⌈log₂ Nt⌉. Memory O(L) + O(m) states
    plus what one step stores. Not where O(Nt) fits: anode recomputes each step only once.

    Source: Griewank & Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000); the schedules are
    those of the package checkpoint-schedules.
    """

    m: int | None = None

    family: ClassVar[str] = "anode-revolve"
    exactness = "up to summation"
    leaves_statistics = True
    is_capturable = True

    @property
    def name(self) -> str:
        return self.family if self.m is None else f"{self.family}:m={self.m}"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless the schedules are installed and m is None or 1 ≤ m ≤ n_steps."""
        if not is_available():
            raise ValueError(
                f"{self.name} needs the package checkpoint-schedules: install it, or choose "
                "another gradient method"
            )
        if self.m is not None and not 1 <= self.m <= n_steps:
            raise ValueError(
                f"{self.name} needs 1 ≤ m ≤ Nt, and Nt is {n_steps}: choose m between 1 and "
                f"{n_steps}"
            )

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        m = self.m or max(1, math.ceil(math.log2(n_steps)))
        steps = step_grid(tableau, n_steps, z0.dtype, z0.device)

        def run(rhs: RightHandSide, z: Tensor, begin: int = 0, end: int = n_steps) -> Tensor:
            return advance(rhs, z, tableau, steps[begin:end])

        return checkpointed(run, rhs, z0, partial(run_schedule, schedule(n_steps, m), run))
