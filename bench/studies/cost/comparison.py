"""Compare the costs of training steps with the reference."""

from collections.abc import Sequence

from bench.experiment import Experiment
from bench.records import CostRow
from bench.studies.cost.cases import CostCase
from bench.studies.regression import Comparison

SLOWER = 0.15
"""By how much, relatively, a ratio of times may differ from the reference's: machines differ in
what a forward pass costs beside a backward pass, and shared ones are noisy."""


class CostComparison(Comparison[CostRow]):
    """The ratio of the whole step to backprop's may differ by 15%; seconds are not compared."""

    key = (
        *("network", "method", "n_steps", "gradient", "device", "batch_size"),
        *("layout", "precision", "execution", "phase"),
    )
    experiment_key = ("network", "method", "n_steps", "gradient", "batch_size", "precision")

    def experiments(self, case: CostCase) -> Sequence[Experiment]:
        return case.experiments

    def problem(self, row: CostRow, reference: CostRow) -> str | None:
        if row.reason:
            return f"it could not be measured: {row.reason}"
        if row.phase != "step":
            return None
        if row.ratio is None or reference.ratio is None:
            return "one of the two has no ratio"
        if abs(row.ratio / reference.ratio - 1) <= SLOWER:
            return None
        return f"was {reference.ratio:.3f}: {row.ratio / reference.ratio - 1:+.0%}"

    def describe(self, row: CostRow) -> dict[str, str]:
        return {
            "network": row.network,
            "scheme": f"{row.method}, Nt {row.n_steps}, {row.layout}, {row.execution}",
            "gradient": row.gradient,
            "phase": row.phase,
            "ratio to backprop": "none" if row.ratio is None else f"{row.ratio:.3f}",
        }
