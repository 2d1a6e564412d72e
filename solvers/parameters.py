"""Which tensors a right-hand side depends on, and gradients in them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.parameter import is_lazy
from torch.utils.weak import TensorWeakRef

from solvers.proof import InexactError


def trainable_parameters(rhs: Any) -> list[Tensor]:
    """The tensors of `rhs` that require a gradient, each once: its parameters, and what else its
    modules have for attributes, such as an input on which the solution is conditioned.

    A plain function has none. Raises ValueError for a lazy module without its parameters.
    """
    tensors = [tensor for tensor in named_tensors(rhs).values() if tensor.requires_grad]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ValueError(
            "the right-hand side has lazy modules without parameters: evaluate it once first"
        )
    return list({id(tensor): tensor for tensor in tensors}.values())


def named_tensors(rhs: Any) -> dict[str, Tensor]:
    """The parameters of `rhs`, and all attributes of its modules that are tensors, by name."""
    if not isinstance(rhs, nn.Module):
        return {}
    return dict(rhs.named_parameters()) | {
        f"{path}.{name}".lstrip("."): value
        for path, module in rhs.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }


def wants_gradient(z0: Tensor, parameters: list[Tensor]) -> bool:
    """Whether anything has to be kept for a backward pass."""
    return torch.is_grad_enabled() and (z0.requires_grad or bool(parameters))


def add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """The sum of two gradients, of which None is one that vanishes."""
    if total is None or part is None:
        return part if total is None else total
    return total + part


def edges(tensors: Sequence[Tensor]) -> list[GradientEdge]:
    """Where the graphs of these tensors end; unlike the tensors they do not keep their values."""
    return [get_gradient_edge(tensor) for tensor in tensors if tensor.requires_grad]


def differentiate(
    ends: list[GradientEdge],
    inputs: Sequence[Tensor | GradientEdge],
    gradients: Sequence[Tensor],
) -> list[Any]:
    """The gradient in each of the inputs, in one differentiation; None in those that want none or
    that the ends do not depend on. `ends` is emptied, so that the graph is let go.

    Hooks of the inputs do not see it: it is a part of their gradient, and they are called with the
    whole, as with backprop, when autograd hands that on.

    Raises InexactError where the ends depend on a leaf that is none of the inputs.
    """
    wants = [not isinstance(x, Tensor) or x.requires_grad for x in inputs]
    wanted: Any = [x for x, wants_one in zip(inputs, wants, strict=True) if wants_one]
    others = other_leaves(ends, wanted)
    found: Iterator[Any] = repeat(None)
    if ends and wanted:
        with _without_hooks([x for x in wanted if isinstance(x, Tensor)]):
            found = iter(torch.autograd.grad(ends, wanted, gradients, allow_unused=True))
    ends.clear()
    require_none(others)
    return [next(found) if wants_one else None for wants_one in wants]


def other_leaves(
    ends: Sequence[GradientEdge], inputs: Sequence[Tensor | GradientEdge]
) -> list[TensorWeakRef]:
    """The leaves of the graph that ends there which are none of the inputs."""
    starts = [get_gradient_edge(x) if isinstance(x, Tensor) else x for x in inputs]
    seen: set[Any] = {(edge.node, edge.output_nr) for edge in starts}
    found = []
    ahead: set[Any] = {(edge.node, edge.output_nr) for edge in ends} - seen
    while ahead:
        seen |= ahead
        found += [TensorWeakRef(n.variable) for n, _ in ahead if type(n).__name__ == _LEAF]
        ahead = {edge for node, _ in ahead for edge in node.next_functions if edge[0]} - seen
    return found


def require_none(others: Sequence[TensorWeakRef]) -> None:
    """Raises InexactError if one of these leaves outlives its graph. One that does not was made by
    the right-hand side itself, and nobody can ask for its gradient."""
    kept = [leaf for other in others if (leaf := other()) is not None]
    if kept:
        names = " and ".join(
            f"a {type(leaf).__name__} of shape {tuple(leaf.shape)}" for leaf in kept
        )
        raise InexactError(
            f"the right-hand side depends on {names} that requires a gradient and was none of its "
            "parameters: make it a parameter, or an attribute, of an nn.Module that is the "
            "right-hand side or a submodule of it (nn.ModuleList and nn.ParameterList in place of "
            "a list), and solve and differentiate with the same ones"
        )


_LEAF = "AccumulateGrad"


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
