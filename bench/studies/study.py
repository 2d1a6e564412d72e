"""The study protocol: the facts and methods of a suite that trains nothing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from bench.data import Dataset
from bench.records import Picture
from bench.studies.regression import Comparison

FOUR_NETWORKS = ("alexnet", "resnet4", "resnet10", "squeezenext")
"""The networks that ANODE's authors trained on CIFAR-10, but ResNet-18."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "network": ("networks",),
    "method": ("methods",),
    "Nt": ("n_steps",),
    "gradient": ("gradients",),
}
"""Option of the command line → the fields of a suite or study that it replaces."""


class Runner(ABC):
    """Measures the cases of a study on one device. pictures: made by `measure`, to be recorded;
    None if it makes none."""

    pictures: Sequence[Picture] | None = None

    @abstractmethod
    def measure(self, case: Any) -> list[Any]:
        """The rows of a case, of the study's row type."""


@dataclass(frozen=True)
class Study(ABC):
    """A suite that trains nothing. A new one is a file with a subclass, and an entry in suites.py.

    The command line may replace the fields of a subclass. These are the same for all instances:

        row             the dataclass of `bench.records` that measurements.csv holds
        key             the fields that a case and its rows have in common, and no two cases; empty
                        if all cases are measured anew each time
        options         option of the command line → the fields that it replaces
        comparison      how rows are compared with a reference; None: there is no reference
        printed         files among the figures that are also printed: short tables
    """

    name: str
    description: str

    row: ClassVar[type[Any]]
    key: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, tuple[str, ...]]]
    comparison: ClassVar[Comparison[Any] | None] = None
    printed: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def cases(self) -> tuple[Any, ...]:
        """All cases, each once. Raises ValueError, which says what to do, for bad values."""

    @abstractmethod
    def runner(self, dataset: Dataset, device: torch.device) -> Runner:
        """Return the runner of the cases. Raises UsageError if the data has too few images."""

    def check_cases(self) -> tuple[Any, ...]:
        """The cases that the regression check measures, where there is a reference."""
        return self.cases()

    def remark(self, case: Any, row: Any) -> str:
        """A line to print about a row as soon as it is measured; empty for none."""
        return ""

    def replaced(self, **overrides: Any) -> Self:
        """This study with other values."""
        return replace(self, **overrides)
