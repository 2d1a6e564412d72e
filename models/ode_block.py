"""A layer that solves an ODE."""

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
