"""Compare measurements with a reference, and say which are not what they must be."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records import CostRow, GradientRow, MemoryRow, key_of

Row = GradientRow | MemoryRow | CostRow

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

SLOWER = 0.15
"""By how much, relatively, a ratio of times may differ from the reference's: machines differ in
what a forward pass costs beside a backward pass, and shared ones are noisy."""

EXACT = ("backprop", "anode")
EXACT_UP_TO_SUMMATION = ("anode-auto", "anode-steps", "anode-revolve", "backprop-torchdiffeq")
LEAVES_STATISTICS = (*EXACT, *EXACT_UP_TO_SUMMATION, "node-frozen", "node-grid-frozen")


@dataclass(frozen=True)
class Finding:
    """One measured row beside its reference. problem is None where all is as it must be."""

    row: Row
    reference: Row | None
    problem: str | None


def compare(measured: Sequence[Row], reference: Iterable[Row]) -> list[Finding]:
    """A finding for each measured row; rows of the reference that were not measured do not count.

    Of gradients, an exact method must have an error of zero, one that is exact up to summation at
    most 1e-14, and any other the reference's to within 1e-9 of it, in either direction: an error
    that falls unexpectedly is news as well. Peak memory on the CPU and numbers of evaluations are
    exact counts, and must be the reference's; CUDA's allocator rounds, and may give 1% more or
    less. Of times the ratio of the whole step to backprop's may differ by 15%.
    """
    known = {_key(row): row for row in reference}
    return [
        Finding(row, known.get(_key(row)), problem(row, known.get(_key(row)))) for row in measured
    ]


def needs_reference(row: Row) -> bool:
    """Whether a row can only be judged beside a reference."""
    if not isinstance(row, GradientRow):
        return True
    return not (_must_vanish(row) or _base(row) in EXACT_UP_TO_SUMMATION)


def without_reference(kind: type[Row], cases: Iterable[Any], reference: Sequence[Row]) -> set[str]:
    """The gradient methods, in words, of those cases for which it can be told before anything is
    measured that there is no reference: of rows that all need one."""
    if kind is GradientRow:
        return set()
    names = [name for name in _OF_EXPERIMENTS if name in kind.__dataclass_fields__]
    known = {key_of(row, names) for row in reference}
    asked = [e for case in cases for e in getattr(case, "experiments", (case,))]
    lacking = [e for e in asked if key_of(e, names) not in known]
    sizes = {(e.batch_size, e.precision) for e in lacking}
    return {
        ", ".join(sorted({e.gradient for e in lacking if (e.batch_size, e.precision) == size}))
        + f" with batch size {size[0]} in {size[1]}"
        for size in sizes
    }


_OF_EXPERIMENTS = ("network", "method", "n_steps", "gradient", "batch_size", "precision")
"""The fields of an experiment by which its rows are known."""


def problem(row: Row, reference: Row | None) -> str | None:
    """What is wrong with a row, in words; None when nothing is."""
    if needs_reference(row) and reference is None:
        return "has no reference"
    if isinstance(row, MemoryRow):
        assert isinstance(reference, MemoryRow), "rows with one key are of one kind"
        return _memory_problem(row, reference)
    if isinstance(row, CostRow):
        assert isinstance(reference, CostRow), "rows with one key are of one kind"
        return _cost_problem(row, reference)
    assert isinstance(reference, GradientRow | None), "rows with one key are of one kind"
    return _gradient_problem(row, reference)


def describe(row: Row) -> dict[str, str]:
    """A row in a person's words: column → text, the measured values last."""
    if isinstance(row, MemoryRow):
        return {
            "network": row.network,
            "scheme": f"{row.method}, Nt {row.n_steps}",
            "gradient": row.gradient,
            "peak": f"{row.peak_bytes:,} bytes",
            "evaluations": f"{row.nfe_forward} + {row.nfe_backward}",
        }
    if isinstance(row, CostRow):
        return {
            "network": row.network,
            "scheme": f"{row.method}, Nt {row.n_steps}, {row.layout}, {row.execution}",
            "gradient": row.gradient,
            "phase": row.phase,
            "ratio to backprop": "none" if row.ratio is None else f"{row.ratio:.3f}",
        }
    return {
        "network": row.network,
        "scheme": f"{row.method}, Nt {row.n_steps}, {row.precision}",
        "gradient": row.gradient,
        "part": row.part,
        "error": f"{row.error:.6g}",
    }


def _key(row: Row) -> tuple[object, ...]:
    common = (row.network, row.method, row.n_steps, row.gradient, row.device)
    if isinstance(row, MemoryRow):
        return (*common, row.batch_size)
    if isinstance(row, CostRow):
        how = (row.layout, row.precision, row.execution, row.phase)
        return (*common, row.batch_size, *how)
    return (*common, row.precision, row.weights, row.activation, row.scale, row.part)


def _base(row: Row) -> str:
    return row.gradient.partition(":")[0]


def _must_vanish(row: GradientRow) -> bool:
    return _base(row) in EXACT or (row.part == "statistics" and _base(row) in LEAVES_STATISTICS)


def _gradient_problem(row: GradientRow, reference: GradientRow | None) -> str | None:
    if _must_vanish(row):
        return None if row.error == 0 else "must be exactly 0"
    if _base(row) in EXACT_UP_TO_SUMMATION:
        return None if row.error <= ROUNDING else f"must be at most {ROUNDING:g}"
    assert reference is not None, "what needs a reference has one here"
    if not math.isclose(row.cosine, reference.cosine, rel_tol=MOVED, abs_tol=NOTHING):
        return f"its cosine was {reference.cosine:.6g} and is {row.cosine:.6g}"
    if math.isclose(row.error, reference.error, rel_tol=MOVED, abs_tol=NOTHING):
        return None
    moved = abs(row.error - reference.error) / max(abs(reference.error), 1e-300)
    return f"was {reference.error:.6g}: moved by {moved:.1e} of it"


def _memory_problem(row: MemoryRow, reference: MemoryRow) -> str | None:
    evaluations = (row.nfe_forward, row.nfe_backward)
    if evaluations != (reference.nfe_forward, reference.nfe_backward):
        return f"evaluations were {reference.nfe_forward} + {reference.nfe_backward}"
    difference = row.peak_bytes - reference.peak_bytes
    allowed = 0.01 * reference.peak_bytes if row.device == "cuda" else 0
    if abs(difference) <= allowed:
        return None
    return (
        f"was {reference.peak_bytes:,} bytes: {difference:+,}, "
        f"{difference / row.state_bytes:+.2f} states"
    )


def _cost_problem(row: CostRow, reference: CostRow) -> str | None:
    if row.reason:
        return f"it could not be measured: {row.reason}"
    if row.phase != "step":
        return None
    if row.ratio is None or reference.ratio is None:
        return "one of the two has no ratio"
    if abs(row.ratio / reference.ratio - 1) <= SLOWER:
        return None
    return f"was {reference.ratio:.3f}: {row.ratio / reference.ratio - 1:+.0%}"
