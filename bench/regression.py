"""Compare measured gradient errors with a reference, and say which are not what they must be."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.records import GradientRow

MOVED = 1e-9
"""By how much, relatively, the error of an inexact method may differ from the reference.

Measured in float64, where another machine's order of summation moves it by about 1e-13, while a
gradient that is wrong by one part in a million moves it by 1e-7 or more.
"""

NOTHING = 1e-12
"""Errors below this are rounding, which another number of threads changes by a tenth and more.

`reversible` with a single step has such errors: there it is the scheme that it is built on.
"""

ROUNDING = 1e-14
"""The largest error that the order of summation explains in float64: a few units of 1e-16."""

EXACT = ("backprop", "anode")
EXACT_UP_TO_SUMMATION = ("anode-steps", "anode-revolve", "backprop-torchdiffeq")
LEAVES_STATISTICS = (*EXACT, "anode-steps", "anode-revolve", "backprop-torchdiffeq", "node-frozen")


@dataclass(frozen=True)
class Finding:
    """One measured part beside its reference. problem is None where all is as it must be."""

    row: GradientRow
    reference: float | None
    problem: str | None


def compare(measured: Sequence[GradientRow], reference: Iterable[GradientRow]) -> list[Finding]:
    """A finding for each measured row; rows of the reference that were not measured do not count.

    An exact method must have an error of zero, one that is exact up to summation at most 1e-14,
    and any other the reference's to within 1e-9 of it, in either direction: an error that falls
    unexpectedly is news as well.
    """
    known = {_key(row): row.error for row in reference}
    return [
        Finding(row, known.get(_key(row)), _problem(row, known.get(_key(row)))) for row in measured
    ]


def needs_reference(row: GradientRow) -> bool:
    """Whether a row can only be judged beside a reference: an inexact method's."""
    base = row.gradient.partition(":")[0]
    leaves = row.part == "statistics" and base in LEAVES_STATISTICS
    return not (base in EXACT or base in EXACT_UP_TO_SUMMATION or leaves)


def _key(row: GradientRow) -> tuple[object, ...]:
    return (
        *(row.network, row.method, row.n_steps, row.gradient),
        *(row.precision, row.weights, row.device, row.part),
    )


def _problem(row: GradientRow, reference: float | None) -> str | None:
    base = row.gradient.partition(":")[0]
    if base in EXACT or (row.part == "statistics" and base in LEAVES_STATISTICS):
        return None if row.error == 0 else "must be exactly 0"
    if base in EXACT_UP_TO_SUMMATION:
        return None if row.error <= ROUNDING else f"must be at most {ROUNDING:g}"
    if reference is None:
        return "has no reference"
    if math.isclose(row.error, reference, rel_tol=MOVED, abs_tol=NOTHING):
        return None
    return f"moved by {abs(row.error - reference) / max(abs(reference), 1e-300):.1e} of it"
