"""The cases of the study `cost`: variants that are measured in turn."""

from dataclasses import dataclass
from typing import NamedTuple

from bench.experiment import Experiment


class Variant(NamedTuple):
    experiment: Experiment
    memory_format: str
    is_captured: bool = False


@dataclass(frozen=True)
class CostCase:
    """The variants of one network, method and Nt, measured in turn.

    refused: peers, and the reasons why they refuse the scheme or are not installed.
    """

    variants: tuple[Variant, ...]
    repeats: int
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        return tuple(dict.fromkeys(variant.experiment for variant in self.variants))

    @property
    def name(self) -> str:
        """The case in a few words."""
        first = self.variants[0].experiment
        return f"{first.network}, {first.method}, Nt {first.n_steps}"
