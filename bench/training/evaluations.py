"""Count evaluations of the right-hand sides."""

from torch import nn

from models import ode_blocks


class EvaluationCounter:
    """Counts evaluations of the right-hand sides of a network's ODE blocks, all blocks together."""

    def __init__(self, network: nn.Module) -> None:
        self._count = 0
        for block in ode_blocks(network):
            block.rhs.register_forward_pre_hook(self._add)

    def _add(self, rhs: nn.Module, inputs: object) -> None:
        self._count += 1

    def take(self) -> int:
        """Return the evaluations since the last call."""
        count, self._count = self._count, 0
        return count
