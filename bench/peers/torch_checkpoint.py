"""PyTorch's own checkpointing around the plain solver."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solvers import METHODS, RightHandSide, Tableau, integrate
from solvers.integrate import advance, step_grid


@dataclass(frozen=True)
class TorchCheckpoint:
    """torch.utils.checkpoint, without reentering autograd, around the block or around each step.

    The schedules of anode and anode-steps. It restores the random state, but evaluates BatchNorm
    again in training mode, so its running statistics change once more.
    """

    name: str
    each_step: bool = False
    reproduces: ClassVar[str] = "backprop"

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        z = z0
        if not self.each_step:
            return checkpoint(lambda z: integrate(rhs, z, tableau, n_steps), z, use_reentrant=False)
        for step in step_grid(tableau, n_steps, z0.dtype, z0.device):
            z = checkpoint(
                lambda z, step=step: advance(rhs, z, tableau, (step,)), z, use_reentrant=False
            )
        return z


BLOCK = TorchCheckpoint("torch-checkpoint")
STEPS = TorchCheckpoint("torch-checkpoint-steps", each_step=True)
