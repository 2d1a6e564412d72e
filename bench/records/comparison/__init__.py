"""Compare two folders of results."""

from bench.records.comparison.pairs import Comparison, compare

__all__ = ["Comparison", "compare"]
