"""Compare two folders of results."""

from bench.records.comparison.observed import ACCURACY, IDENTITY
from bench.records.comparison.pairs import Comparison, compare

__all__ = ["ACCURACY", "IDENTITY", "Comparison", "compare"]
