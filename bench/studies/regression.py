"""The regression check: compare measured rows with a study's reference."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from bench.experiment import Experiment
from bench.records import key_of, quantities

Row = TypeVar("Row", bound=quantities.Row)


class Comparison(ABC, Generic[Row]):
    """Comparison of the rows of a study with those of its reference.

    experiment_key: fields of an experiment by which a missing reference is found before anything is
    measured; empty if some rows need no reference.
    """

    experiment_key: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def problem(self, row: Row, reference: Row) -> str | None:
        """Describe the difference of a row from its reference; None if there is none."""

    @abstractmethod
    def describe(self, row: Row) -> dict[str, str]:
        """A row for a printed table: column → text, the measured values last."""

    def is_absolute(self, row: Row) -> bool:
        """Return whether a row has a bound of its own and needs no reference."""
        return False

    def absolute_problem(self, row: Row) -> str | None:
        """`problem` for a row that needs no reference."""
        return None

    def experiments(self, case: Any) -> Sequence[Experiment]:
        """The experiments that a case measures."""
        return (case,)


@dataclass(frozen=True)
class Finding(Generic[Row]):
    """One measured row and its reference. problem: None if the row passes."""

    row: Row
    reference: Row | None
    problem: str | None


def compare(
    comparison: Comparison[Row], measured: Iterable[Row], reference: Iterable[Row]
) -> list[Finding[Row]]:
    """One finding per measured row. Rows of the reference that were not measured do not count."""
    known = {identity_of(row): row for row in reference}
    return [_finding(comparison, row, known.get(identity_of(row))) for row in measured]


def identity_of(row: quantities.Row) -> tuple[Any, ...]:
    """The values that a measured row and its reference have in common."""
    return key_of(row, row.identity)


def _finding(comparison: Comparison[Row], row: Row, reference: Row | None) -> Finding[Row]:
    if comparison.is_absolute(row):
        problem = comparison.absolute_problem(row)
    elif reference is None:
        problem = "has no reference"
    else:
        problem = comparison.problem(row, reference)
    return Finding(row, reference, problem)


def without_reference(
    comparison: Comparison[Row], cases: Iterable[Any], reference: Iterable[Row]
) -> set[str]:
    """Describe the cases that the reference lacks: their gradient methods, sizes and precisions."""
    names = comparison.experiment_key
    if not names:
        return set()
    known = {key_of(row, names) for row in reference}
    lacking: dict[tuple[int, str], set[str]] = {}
    for experiment in (e for case in cases for e in comparison.experiments(case)):
        if key_of(experiment, names) not in known:
            size = experiment.batch_size, experiment.precision
            lacking.setdefault(size, set()).add(experiment.gradient)
    return {
        f"{', '.join(sorted(gradients))} with batch size {batch_size} in {precision}"
        for (batch_size, precision), gradients in lacking.items()
    }
