"""Local Lipschitz constants of a network's right-hand sides."""

import torch
from torch import Tensor, nn

from models import block_inputs
from solvers.replay import buffers_put_back

ITERATIONS = 40


def of_blocks(network: nn.Module, images: Tensor) -> tuple[float, ...]:
    """‖∂f/∂z‖₂ at t = 0 and each ODE block's input, in the network's order.

    images (batch, 3, 32, 32), taken as a whole, since BatchNorm in training mode couples them.
    A lower bound of a local Lipschitz constant of f, by power iteration on JᵀJ. BatchNorm's
    statistics are unchanged.
    """
    with block_inputs(network) as inputs, torch.no_grad(), buffers_put_back(network):
        network(images)
    return tuple(_spectral_norm(block.rhs, z) for block, z in inputs)


def _spectral_norm(rhs: nn.Module, z: Tensor) -> float:
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z)
    with buffers_put_back(rhs), torch.enable_grad():
        z = z.detach().requires_grad_()
        slope = rhs(torch.zeros((), dtype=z.dtype, device=z.device), z)
        # Jᵀu is linear in u, so its own differentiation in u gives Jv: two reverse passes.
        u = torch.zeros_like(slope, requires_grad=True)
        (transposed,) = torch.autograd.grad(slope, z, u, create_graph=True)
        norm = 0.0
        for _ in range(ITERATIONS):
            v = v / v.norm()
            (forward,) = torch.autograd.grad(transposed, u, v, retain_graph=True)
            norm = float(forward.norm())
            if norm == 0:
                return 0.0
            (v,) = torch.autograd.grad(slope, z, forward, retain_graph=True)
    return norm
