"""The numeric claims of §III and Figures 1 and 7 of the ANODE paper (arXiv 1902.10298)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isinf

import pandas as pd

from plots import labels
from plots.reversibility.errors import median_over_seeds, steps_needed

SINGLE = 2.0**-23
"""Single precision: the distance from 1 to the next number."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper. text, paper: its words and number. rule: the condition under which it
    holds, in words. schemes: those it is judged for; empty for all.
    """

    text: str
    paper: str
    problem: str
    rule: str
    schemes: tuple[str, ...] = ()

    def judge(self, rows: pd.DataFrame) -> tuple[bool, str]:
        """Return whether it holds for a scheme's float64 rows, and the measured value in words."""
        raise NotImplementedError


@dataclass(frozen=True)
class Steps(Claim):
    """An error of rho takes this number of steps."""

    rho: float = 0.01
    steps: int = 0

    def judge(self, rows: pd.DataFrame) -> tuple[bool, str]:
        needed = steps_needed(rows, self.rho)
        if needed is None:
            measured = f"never, up to {_steps(rows['n_steps'].max())}"
        else:
            both_ways, comes_back = self._both_ways(rows), self._comes_back(rows, needed)
            measured = _steps(needed) + _of_seeds(rows, self.rho) + both_ways + comes_back
        at_paper = rows[(rows["n_steps"] == self.steps) & (rows["tolerance"] == 0)]["rho"]
        if len(at_paper):
            low, high = at_paper.min(), at_paper.max()
            spread = f" ({low:.2g} … {high:.2g})" if len(at_paper) > 1 else ""
            measured += f"; ρ = {at_paper.median():.2g}{spread} at {self.steps:,}"
        return needed is not None and self.steps / 2 <= needed <= 2 * self.steps, measured

    def _both_ways(self, rows: pd.DataFrame) -> str:
        """An adaptive solver's steps both ways: the paper does not say which it counts."""
        both = steps_needed(rows.assign(n_steps=rows["n_steps"] + rows["n_steps_back"]), self.rho)
        adaptive = (rows["tolerance"] > 0).all()
        return f" ({ceil(both):,} with the backward ones)" if adaptive and both is not None else ""

    def _comes_back(self, rows: pd.DataFrame, needed: float) -> str:
        """A larger number of steps whose error, by rounding, is above rho again."""
        medians = median_over_seeds(rows)
        later = medians[(medians["n_steps"] > needed) & (medians["rho"] > self.rho)]
        return f", though not with {_steps(later['n_steps'].iloc[0])}" if len(later) else ""


@dataclass(frozen=True)
class NotReversible(Claim):
    """No number of steps or tolerance brings the error down to rho."""

    rho: float = 0.01

    def judge(self, rows: pd.DataFrame) -> tuple[bool, str]:
        best = rows.loc[rows["rho"].idxmin()]
        if isinf(best["rho"]):
            return True, "no finite result"
        measured = f"smallest ρ = {best['rho']:.2g}, {_steps(best['n_steps'])}"
        return bool(best["rho"] > self.rho), measured


@dataclass(frozen=True)
class Reversible(Claim):
    """At most this number of steps bring the error down to rho."""

    rho: float = 0.01
    steps: int = 100

    def judge(self, rows: pd.DataFrame) -> tuple[bool, str]:
        needed = steps_needed(rows, self.rho)
        if needed is None:
            return False, f"never, up to {_steps(rows['n_steps'].max())}"
        return needed <= self.steps, _steps(needed) + _of_seeds(rows, self.rho)


@dataclass(frozen=True)
class SquareOfA(Claim):
    """The reversal of z + a·max(0, z), z > 0, errs by a²z; the problem's name ends in a."""

    def judge(self, rows: pd.DataFrame) -> tuple[bool, str]:
        a = float(self.problem.rpartition("-")[2])
        rho = float(rows["rho"].iloc[0])
        return abs(rho - a * a) <= 1e-10 * a * a, f"ρ = {rho:.6g}"


@dataclass(frozen=True)
class Unlike(Claim):
    """The reconstruction does not resemble the image: with one fixed step, or at a tolerance."""

    activation: str = "relu"
    tolerance: float = 0.0

    def judge(self, rows: pd.DataFrame) -> tuple[bool, str]:
        rows = rows[rows["activation"] == self.activation]
        chosen = rows[rows["tolerance"] == self.tolerance]
        chosen = chosen[(chosen["n_steps"] == 1) | (self.tolerance > 0)]
        if chosen.empty:
            return False, "not measured"
        rho = chosen["rho"].median()
        return bool(rho >= 0.5), f"ρ = {rho:.2g}"


_WITHIN_TWO = "steps for that ρ, interpolated, within a factor of two of the paper's"
_FIXED = ("euler", "rk2", "rk4", "reversible")

CLAIMS: Sequence[Claim] = (
    Steps("ρ ≤ 1% takes about 200,000 steps", "200,000", "linear-100", _WITHIN_TWO,
          rho=0.01, steps=200_000),
    NotReversible("not reversible in double precision", "never", "linear-10000",
                  "ρ > 1% with every number of steps and tolerance measured"),
    Steps("RK45: ρ = 1% with 11 steps", "11", "relu-decay", _WITHIN_TWO, rho=0.01, steps=11),
    Steps("RK45: ρ = 0.4% with 18 steps", "18", "relu-decay", _WITHIN_TWO, rho=0.004, steps=18),
    Steps("RK45: single precision with 211 steps", "211", "relu-decay", _WITHIN_TWO,
          rho=SINGLE, steps=211),
    Steps("single precision takes about 10,000 steps (n = 100)", "10,000", "gaussian",
          _WITHIN_TWO, rho=SINGLE, steps=10_000),
    Reversible("reversal works with ‖W‖₂ = O(1)", "works", "gaussian-unit",
               "ρ ≤ 1% with at most 100 steps"),
    *(
        SquareOfA(f"z + a·max(0, z) reversed by its sign errs by a²z₀, a = {a:g}", f"{a * a:g}",
                  f"residual-{a:g}", "ρ = a² to ten digits", ("euler", "reversible"))
        for a in (0.01, 0.1, 0.5, 1.0)
    ),
    *(
        Unlike(f"Figure 1, one residual block, {labels.activation(activation)}: the "
               "reconstruction does not resemble the image", "unlike", "convolution",
                      "ρ ≥ 50% with one step", _FIXED, activation=activation)
        for activation in ("relu", "leaky_relu")
    ),
    *(
        Unlike(f"Figure 7, RK45, rtol {tolerance:g}, {labels.activation(activation)}: "
               "the same", "unlike", "convolution", f"ρ ≥ 50% at rtol {tolerance:g}",
                      ("rk45",), activation=activation, tolerance=tolerance)
        for tolerance in (0.1, 0.001)
        for activation in ("none", "relu", "leaky_relu", "softplus")
    ),
)  # fmt: skip
"""The paper's numbers; the rest of the table is computed from the recorded rows."""


def _steps(number: float) -> str:
    return "1 step" if ceil(number) == 1 else f"{ceil(number):,} steps"


def _of_seeds(rows: pd.DataFrame, rho: float) -> str:
    """The smallest and the largest number of steps that a seed needs; "" for a single seed."""
    needed = [steps_needed(own, rho) for _, own in rows.groupby("seed")]
    if len(needed) < 2:
        return ""
    reached = [number for number in needed if number is not None]
    count = f"{len(needed)} seeds"
    if len(reached) < len(needed):
        count = f"{len(reached)} of {count}, the others never"
    return f" ({ceil(min(reached)):,} … {ceil(max(reached)):,} over {count})"
