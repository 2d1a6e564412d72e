"""The numeric claims of §III and Figures 1 and 7 of the ANODE paper (arXiv 1902.10298)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, isinf

import pandas as pd

from plots import labels
from plots.reversibility.errors import median_over_seeds, steps_needed

SINGLE = 2.0**-23
"""Single precision: the distance from 1 to the next number."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper. text, paper: its words and number.

    judge: returns, for a scheme's float64 rows of the problem, whether it holds, and the measured
    value in words. rule: the condition under which it holds. schemes: those it is judged for; empty
    for all. point: number of steps and error, to be drawn.
    """

    text: str
    paper: str
    problem: str
    judge: Callable[[pd.DataFrame], tuple[bool, str]]
    rule: str
    schemes: tuple[str, ...] = ()
    point: tuple[int, float] | None = None


def _steps_claim(text: str, paper: str, problem: str, rho: float, steps: int) -> Claim:
    """An error of rho takes this number of steps."""
    rule = "steps for that ρ, interpolated, within a factor of two of the paper's"
    judge = partial(_takes_steps, rho=rho, steps=steps)
    return Claim(text, paper, problem, judge, rule, point=(steps, rho))


def _takes_steps(rows: pd.DataFrame, rho: float, steps: int) -> tuple[bool, str]:
    needed = steps_needed(rows, rho)
    if needed is None:
        measured = _never(rows)
    else:
        measured = _steps(needed) + _of_seeds(rows, rho) + _both_ways(rows, rho)
        medians = median_over_seeds(rows)
        # A larger number of steps whose error, by rounding, is above rho again.
        later = medians[(medians["n_steps"] > needed) & (medians["rho"] > rho)]
        if len(later):
            measured += f", though not with {_steps(later['n_steps'].iloc[0])}"
    at_paper = rows[(rows["n_steps"] == steps) & (rows["tolerance"] == 0)]["rho"]
    if len(at_paper):
        low, high = at_paper.min(), at_paper.max()
        spread = f" ({low:.2g} … {high:.2g})" if len(at_paper) > 1 else ""
        measured += f"; ρ = {at_paper.median():.2g}{spread} at {steps:,}"
    return needed is not None and steps / 2 <= needed <= 2 * steps, measured


def _both_ways(rows: pd.DataFrame, rho: float) -> str:
    """An adaptive solver's steps both ways: the paper does not say which it counts."""
    both = steps_needed(rows.assign(n_steps=rows["n_steps"] + rows["n_steps_back"]), rho)
    adaptive = (rows["tolerance"] > 0).all()
    return f" ({ceil(both):,} with the backward ones)" if adaptive and both is not None else ""


def _is_not_reversible(rows: pd.DataFrame) -> tuple[bool, str]:
    best = rows.loc[rows["rho"].idxmin()]
    if isinf(best["rho"]):
        return True, "no finite result"
    return bool(best["rho"] > 0.01), f"smallest ρ = {best['rho']:.2g}, {_steps(best['n_steps'])}"


def _is_reversible(rows: pd.DataFrame) -> tuple[bool, str]:
    needed = steps_needed(rows, 0.01)
    if needed is None:
        return False, _never(rows)
    return needed <= 100, _steps(needed) + _of_seeds(rows, 0.01)


def _errs_by_a_squared(rows: pd.DataFrame, a: float) -> tuple[bool, str]:
    rho = float(rows["rho"].iloc[0])
    return abs(rho - a * a) <= 1e-10 * a * a, f"ρ = {rho:.6g}"


def _is_unlike(rows: pd.DataFrame, activation: str, tolerance: float = 0.0) -> tuple[bool, str]:
    """The reconstruction does not resemble the image: with one fixed step, or at a tolerance."""
    rows = rows[(rows["activation"] == activation) & (rows["tolerance"] == tolerance)]
    rows = rows[(rows["n_steps"] == 1) | (tolerance > 0)]
    if rows.empty:
        return False, "not measured"
    rho = rows["rho"].median()
    return bool(rho >= 0.5), f"ρ = {rho:.2g}"


CLAIMS: Sequence[Claim] = (
    _steps_claim("ρ ≤ 1% takes about 200,000 steps", "200,000", "linear-100", 0.01, 200_000),
    Claim("not reversible in double precision", "never", "linear-10000", _is_not_reversible,
          "ρ > 1% with every number of steps and tolerance measured"),
    _steps_claim("RK45: ρ = 1% with 11 steps", "11", "relu-decay", 0.01, 11),
    _steps_claim("RK45: ρ = 0.4% with 18 steps", "18", "relu-decay", 0.004, 18),
    _steps_claim("RK45: single precision with 211 steps", "211", "relu-decay", SINGLE, 211),
    _steps_claim("single precision takes about 10,000 steps (n = 100)", "10,000", "gaussian",
                 SINGLE, 10_000),
    Claim("reversal works with ‖W‖₂ = O(1)", "works", "gaussian-unit", _is_reversible,
          "ρ ≤ 1% with at most 100 steps"),
    *(
        Claim(f"z + a·max(0, z) reversed by its sign errs by a²z₀, a = {a:g}", f"{a * a:g}",
              f"residual-{a:g}", partial(_errs_by_a_squared, a=a), "ρ = a² to ten digits",
              ("euler", "reversible"))
        for a in (0.01, 0.1, 0.5, 1.0)
    ),
    *(
        Claim(f"Figure 1, one residual block, {labels.activation(activation)}: the "
              "reconstruction does not resemble the image", "unlike", "convolution",
              partial(_is_unlike, activation=activation), "ρ ≥ 50% with one step",
              ("euler", "rk2", "rk4", "reversible"))
        for activation in ("relu", "leaky_relu")
    ),
    *(
        Claim(f"Figure 7, RK45, rtol {tolerance:g}, {labels.activation(activation)}: the same",
              "unlike", "convolution",
              partial(_is_unlike, activation=activation, tolerance=tolerance),
              f"ρ ≥ 50% at rtol {tolerance:g}", ("rk45",))
        for tolerance in (0.1, 0.001)
        for activation in ("none", "relu", "leaky_relu", "softplus")
    ),
)  # fmt: skip
"""The paper's numbers; the rest of the table is computed from the recorded rows."""


def _steps(number: float) -> str:
    return "1 step" if ceil(number) == 1 else f"{ceil(number):,} steps"


def _never(rows: pd.DataFrame) -> str:
    return f"never, up to {_steps(rows['n_steps'].max())}"


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
