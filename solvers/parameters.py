"""Which parameters a right-hand side has, and sums of their gradients."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn.parameter import is_lazy


def trainable_parameters(rhs: Callable[..., Tensor]) -> list[Tensor]:
    """The tensors of `rhs` that require a gradient, each once: its parameters, and what else its
    modules have for attributes, such as an input on which the solution is conditioned.

    A plain function has none. Raises ValueError when it closes over some: a gradient method that
    hands gradients to the parameters it knows of would silently give those no gradient. Raises
    ValueError, too, for a lazy module that does not have its parameters yet.
    """
    if isinstance(rhs, nn.Module):
        tensors: list[Tensor] = [*rhs.parameters()]
        if any(is_lazy(tensor) for tensor in tensors):
            raise ValueError(
                "the right-hand side has lazy modules without parameters: evaluate it once first"
            )
        tensors += [tensor for module in rhs.modules() for _, tensor in attributes(module)]
        unique = {id(tensor): tensor for tensor in tensors if tensor.requires_grad}
        return list(unique.values())
    hidden = [name for name, value in _enclosed(rhs) if _wants_gradient(value)]
    if hidden:
        raise ValueError(
            f"the right-hand side uses {', '.join(hidden)}, which requires a gradient, but is no "
            "module: make it an nn.Module, so that its parameters are known"
        )
    return []


def attributes(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The attributes of a module that are tensors, no parameters, and require a gradient."""
    return [(n, v) for n, v in vars(module).items() if isinstance(v, Tensor) and v.requires_grad]


def wants_gradient(z0: Tensor, parameters: list[Tensor]) -> bool:
    """Whether anything has to be kept for a backward pass."""
    return torch.is_grad_enabled() and (z0.requires_grad or bool(parameters))


def add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """The sum of two gradients, of which None is one that vanishes."""
    if total is None or part is None:
        return part if total is None else total
    return total + part


def _enclosed(function: Any) -> list[tuple[str, Any]]:
    """What a function, a bound method, a partial or a callable object carries with it."""
    found = list(getattr(function, "__dict__", {}).items())
    if hasattr(function, "__self__"):
        found.append(("its object", function.__self__))
    code = getattr(function, "func", function)  # functools.partial
    if code is not function:
        found += [*function.keywords.items(), *(("an argument", x) for x in function.args)]
    code = inspect.unwrap(getattr(code, "__func__", code))
    if inspect.isfunction(code):
        variables = inspect.getclosurevars(code)
        found += [*variables.nonlocals.items(), *variables.globals.items()]
    return found


def _wants_gradient(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return any(parameter.requires_grad for parameter in value.parameters())
    if isinstance(value, list | tuple | set):
        return any(_wants_gradient(part) for part in value)
    if isinstance(value, dict):
        return any(_wants_gradient(part) for part in value.values())
    return isinstance(value, Tensor) and value.requires_grad


def differentiate(
    ends: Sequence[Tensor] | Sequence[GradientEdge],
    inputs: Sequence[Tensor | GradientEdge],
    gradients: Sequence[Tensor],
) -> list[Any]:
    """The gradient in each of the inputs, in one differentiation; None in those that want none or
    that the ends do not depend on.

    Hooks of the inputs do not see it: it is a part of their gradient, and they are called with the
    whole, as with backprop, when autograd hands that on.
    """
    wants = [not isinstance(x, Tensor) or x.requires_grad for x in inputs]
    wanted: Any = [x for x, wants_one in zip(inputs, wants, strict=True) if wants_one]
    if not ends:
        return [None] * len(inputs)
    with _without_hooks([x for x in wanted if isinstance(x, Tensor)]):
        found = iter(torch.autograd.grad(ends, wanted, gradients, allow_unused=True))
    return [next(found) if wants_one else None for wants_one in wants]


@contextmanager
def _without_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    hooked = [hooks for tensor in tensors if (hooks := tensor._backward_hooks)]
    kept = [dict(hooks) for hooks in hooked]
    for hooks in hooked:
        hooks.clear()  # in place: autograd has the very dictionary where a tensor is no leaf
    try:
        yield
    finally:
        for hooks, before in zip(hooked, kept, strict=True):
            hooks.update(before)
