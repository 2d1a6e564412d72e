"""Rows of tables of measurements: what identifies them, and the quantities they state."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ACCURACY, GRADIENT_ERROR = "accuracy", "gradient error"
"""Beginnings of the names of these quantities."""

ROUNDING = {"float64": 1e-14}
"""Precision → rounding of a gradient error that is not 0; 1e-6 for the others."""


class Quantity(NamedTuple):
    """A measured value. low, high: its spread, or None if it is not known."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def exact(cls, name: str, value: float) -> Self:
        """A value without a spread."""
        return cls(name, float(value), float(value), float(value))

    @classmethod
    def rounded(cls, name: str, error: float, precision: str | None) -> Self:
        """A gradient error whose spread is rounding."""
        rounding = ROUNDING.get(precision or "", 1e-6) / 2
        return cls(name, error, error - rounding, error + rounding)


class Row(ABC):
    """A row of a table; subclasses are dataclasses.

    identity: the fields that identify a row of a table, besides `seed`. Rows of two tables with the
    same values there are measurements of the same thing.
    """

    identity: ClassVar[tuple[str, ...]]

    @abstractmethod
    def quantities(self) -> Iterator[Quantity]:
        """The quantities by which two measurements are compared."""


def kind_of(columns: Collection[str]) -> "type[Any] | None":
    """The class whose rows have these columns; those with a default may be missing."""
    return next((kind for kind in _kinds(Row) if _fits(kind, {*columns})), None)


def _kinds(kind: type[Any]) -> "Iterator[type[DataclassInstance]]":
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _kinds(subclass)


def _fits(kind: "type[DataclassInstance]", columns: set[str]) -> bool:
    required = {field.name for field in fields(kind) if field.default is MISSING}
    return required <= columns <= {field.name for field in fields(kind)}
