"""Peers with something wrong with them, and one that computes where it cannot be seen."""

from dataclasses import dataclass, field

from torch import nn

from solvers import GRADIENTS


@dataclass
class Wrong:
    """Says that it has backprop's result. Off by so many steps, with a gradient off by a factor."""

    name: str = "wrong"
    more_steps: int = 0
    factor: float = 1.0
    reproduces: str = "backprop"

    def solve(self, rhs, z0, method, n_steps):
        z1 = GRADIENTS["backprop"].solve(rhs, z0, method, n_steps + self.more_steps)
        return z1.detach() + self.factor * (z1 - z1.detach())


@dataclass
class Failing:
    """Solves so many times, then fails; says nothing of its gradient."""

    after: int
    name: str = "failing"
    solved: list[nn.Module] = field(default_factory=list)

    def solve(self, rhs, z0, method, n_steps):
        self.solved.append(rhs)
        if len(self.solved) > self.after:
            raise RuntimeError("a wheel came off\nand rolled away")
        return GRADIENTS["anode"].solve(rhs, z0, method, n_steps)


class Refusing(Failing):
    def check(self, method, n_steps):
        raise ValueError("no wheels here: fit some")


@dataclass
class Compiled:
    name: str = "compiled"
    outside_torch: bool = True
    compile_seconds: float = 99.0

    def forget(self):
        self.compile_seconds = 0.0

    def solve(self, rhs, z0, method, n_steps):
        if not self.compile_seconds:
            self.compile_seconds = 2.5
        return GRADIENTS["anode"].solve(rhs, z0, method, n_steps)


TOO_FAR = Wrong(more_steps=1)
DOUBLED = Wrong(factor=2.0)
RIGHT = Wrong()
AT_ONCE = Failing(after=0)
MIDWAY = Failing(after=6)
REFUSING = Refusing(after=0)
COMPILED = Compiled()
