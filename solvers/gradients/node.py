"""The Neural ODE method: torchdiffeq's continuous adjoint, unmodified."""

import torch
import torchdiffeq
from torch import Tensor

from solvers.methods import METHODS, RightHandSide, Tableau, time_grid
from solvers.parameters import trainable_parameters


class Node:
    """Keeps z(1) alone and solves state, adjoint and parameter integral backwards from it.

    Memory O(L) for L blocks, whatever the number of steps. Not the gradient of the discrete
    forward pass: the reconstructed states drift, and without drift an O(dt) inconsistency stays.
    Not for training where either matters; see the paper on ANODE. While it solves backwards,
    torchdiffeq evaluates the right-hand side in training mode, so BatchNorm's running statistics
    change a second time, on the drifted states.

    Source: Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations",
    NeurIPS 2018; `torchdiffeq.odeint_adjoint`.
    """

    name = "node"

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError when torchdiffeq does not have the scheme."""
        tableau = METHODS.resolve(method)
        if tableau.torchdiffeq is None:
            fitting = [entry for entry in METHODS.values() if entry.torchdiffeq]
            near = min(fitting, key=lambda entry: abs(entry.order - tableau.order))
            raise ValueError(
                f"node cannot use the method {tableau.name!r}, which torchdiffeq does not have: "
                f"choose {near.name!r} (what torchdiffeq calls {near.torchdiffeq!r}) instead, "
                "or another gradient method"
            )

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)

        def n_equal_steps(f: RightHandSide, z: Tensor, t: Tensor) -> Tensor:
            # step_size=1/n would take a tiny extra step for some n.
            grid = time_grid(n_steps, t.dtype, torch.device("cpu")).to(t.device)
            return grid if t[0] < t[-1] else grid.flip(0)

        solution = torchdiffeq.odeint_adjoint(
            rhs,
            z0,
            torch.tensor([0.0, 1.0], dtype=z0.dtype, device=z0.device),
            method=METHODS.resolve(method).torchdiffeq,
            options={"grid_constructor": n_equal_steps},
            adjoint_params=tuple(trainable_parameters(rhs)),
        )
        z1: Tensor = solution[-1]
        # torchdiffeq returns contiguous memory. The layers behind the block would round
        # differently if they did not get the layout that every other gradient method gives them.
        return z1.contiguous(memory_format=_memory_format(z0))


def _memory_format(z: Tensor) -> torch.memory_format:
    for memory_format in (torch.channels_last, torch.channels_last_3d):
        dimensions = 4 if memory_format == torch.channels_last else 5
        if z.dim() == dimensions and z.is_contiguous(memory_format=memory_format):
            return memory_format
    return torch.contiguous_format
