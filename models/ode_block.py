"""A layer that solves an ODE."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from solvers import GradientMethod, Tableau, check, odeint


class ODEBlock(nn.Module):
    """z(0) → z(1) with dz/dt = rhs(t, z).

    rhs: module f(t, z) that keeps shape. method, n_steps, gradient: as for `solvers.odeint`;
    gradient may be reassigned at any time, by name or as an object.

    Input and output have the shape that rhs takes. Raises ValueError for a combination that
    `solvers.odeint` refuses.
    """

    def __init__(
        self,
        rhs: nn.Module,
        *,
        method: str | Tableau,
        n_steps: int,
        gradient: str | GradientMethod,
    ) -> None:
        super().__init__()
        check(method, n_steps, gradient)
        self.rhs = rhs
        self.method = method
        self.n_steps = n_steps
        self.gradient = gradient

    def forward(self, z: Tensor) -> Tensor:
        return odeint(self.rhs, z, method=self.method, n_steps=self.n_steps, gradient=self.gradient)

    def extra_repr(self) -> str:
        return f"method={self.method!r}, n_steps={self.n_steps}, gradient={self.gradient!r}"


def ode_blocks(network: nn.Module) -> list[ODEBlock]:
    """The ODE blocks of a network, in its order."""
    return [module for module in network.modules() if isinstance(module, ODEBlock)]


@contextmanager
def block_inputs(network: nn.Module) -> Iterator[list[tuple[ODEBlock, Tensor]]]:
    """Context with a list to which each solve of an ODE block appends the block and its z(0)."""
    found: list[tuple[ODEBlock, Tensor]] = []
    hooks = [
        block.register_forward_pre_hook(lambda block, given: found.append((block, given[0])))
        for block in ode_blocks(network)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
