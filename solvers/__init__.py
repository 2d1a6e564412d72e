"""Fixed-step ODE solvers and the gradient methods that differentiate them."""

from torch import Tensor

from solvers.gradients import GRADIENTS, GradientMethod
from solvers.integrate import RightHandSide, integrate
from solvers.methods import METHODS, Tableau
from solvers.proof import InexactError

__all__ = [
    "GRADIENTS",
    "METHODS",
    "ContractError",
    "GradientMethod",
    "InexactError",
    "RightHandSide",
    "Tableau",
    "check",
    "integrate",
    "odeint",
]


class ContractError(ValueError):
    """A gradient method whose `solve` returned something other than z(1)."""


def odeint(
    rhs: RightHandSide,
    z0: Tensor,
    *,
    method: str | Tableau,
    n_steps: int,
    gradient: str | GradientMethod,
) -> Tensor:
    """Solve dz/dt = rhs(t, z), z(0) = z0, from t = 0 to 1.

    rhs: called with a scalar tensor t and a state; keeps the state's shape. An nn.Module, if it
        has parameters.
    z0: the state, floating point, of any shape.
    method: a name of METHODS or a Tableau. gradient: a name of GRADIENTS or a gradient method.
    n_steps: number of equal steps, at least 1.

    Returns z(1), of the shape and precision of z0, differentiable in z0 and in every parameter of
    rhs that requires a gradient; backward raises InexactError, a ValueError, where it cannot return
    that gradient. Raises ValueError for an unknown name, an invalid argument or a combination that
    the gradient method cannot do, and ContractError, a ValueError, if it returns another shape.
    """
    if not isinstance(z0, Tensor) or not z0.is_floating_point():
        given = z0.dtype if isinstance(z0, Tensor) else type(z0).__name__
        raise ValueError(f"the state must be a floating-point tensor, not {given}")
    check(method, n_steps, gradient)
    z1 = GRADIENTS.resolve(gradient).solve(rhs, z0, method, n_steps)
    if not isinstance(z1, Tensor) or z1.shape != z0.shape:
        found = tuple(z1.shape) if isinstance(z1, Tensor) else type(z1).__name__
        raise ContractError(
            f"the gradient method {gradient!r} must return z(1) in the shape of z0, "
            f"{tuple(z0.shape)}, and returned {found}"
        )
    return z1.to(z0.dtype)  # slopes of a higher precision promote the state


def check(method: str | Tableau, n_steps: int, gradient: str | GradientMethod) -> None:
    """Raises ValueError, saying what to do, unless these three can be used together."""
    METHODS.resolve(method)
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 1:
        raise ValueError(f"n_steps must be a whole number of at least 1, not {n_steps!r}")
    check_combination = getattr(GRADIENTS.resolve(gradient), "check", None)
    if check_combination is not None:
        check_combination(method, n_steps)
