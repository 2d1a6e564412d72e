"""The tensors that a right-hand side depends on, and gradients with respect to them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.parameter import is_lazy
from torch.utils.weak import TensorWeakRef

from solvers.proof import InexactError

Input = Tensor | GradientEdge


def trainable_parameters(rhs: Any) -> list[Tensor]:
    """The tensors of `rhs` that require a gradient, each once: its parameters, and attributes of
    its modules that it did not compute itself, such as an input on which the solution is
    conditioned. An attribute that was computed from another one of these is left out: its gradient
    is part of that one's. A plain function has none. Raises ValueError for a lazy module without
    parameters, and for a buffer that requires a gradient.
    """
    tensors: list[Tensor] = [*rhs.parameters()] if isinstance(rhs, nn.Module) else []
    tensors += [tensor for _, _, tensor in tensor_attributes(rhs)]
    wanted = [tensor for tensor in dict.fromkeys(tensors) if is_parameter(tensor)]
    if any(map(is_lazy, wanted)):
        raise ValueError(
            "the right-hand side has lazy modules without parameters: evaluate it once first"
        )
    buffers = rhs.buffers() if isinstance(rhs, nn.Module) else ()
    if any(buffer.requires_grad for buffer in buffers):
        raise ValueError("a buffer of the right-hand side requires a gradient: make it a parameter")
    return [tensor for tensor in wanted if tensor.is_leaf or not _reaches(tensor, wanted)]


def _reaches(tensor: Tensor, others: Sequence[Tensor]) -> bool:
    """Return whether a tensor that is no leaf was computed from another one of these."""
    goals = {edge[:2] for edge in edges(other for other in others if other is not tensor)}
    return any(place in goals for place in upstream(edges([tensor])))


def tensor_attributes(rhs: Any) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """The attributes of the modules of `rhs` that are tensors but neither parameters nor buffers:
    the module's dictionary, name, value."""
    for module in rhs.modules() if isinstance(rhs, nn.Module) else ():
        for name, value in [*vars(module).items()]:
            if isinstance(value, Tensor):
                yield vars(module), name, value


def is_parameter(tensor: Tensor) -> bool:
    """Return whether a tensor of rhs requires a gradient and was not computed by rhs."""
    return tensor.requires_grad and not hasattr(tensor, "is_computed")


def mark_computed(tensor: Tensor) -> Tensor:
    """The tensor itself, which from now on is not a parameter."""
    tensor.is_computed = True  # type: ignore[attr-defined]
    return tensor


def wants_gradient(z0: Tensor, parameters: list[Tensor]) -> bool:
    """Return whether a backward pass may follow."""
    return torch.is_grad_enabled() and (z0.requires_grad or bool(parameters))


def add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """The sum of two gradients; None is a gradient of zero."""
    if total is None or part is None:
        return part if total is None else total
    return total + part


def edges(tensors: Iterable[Tensor]) -> list[GradientEdge]:
    """Ends of the graphs of these tensors; unlike the tensors they do not keep their values."""
    return [get_gradient_edge(tensor) for tensor in tensors if tensor.requires_grad]


def differentiate(
    ends: list[GradientEdge],
    inputs: Sequence[Input],
    gradients: Sequence[Tensor],
    *,
    is_stored: bool = False,
) -> list[Any]:
    """The gradient with respect to each input, in one differentiation; None for inputs that require
    none or on which the ends do not depend. Empties `ends`, so that the graph is freed.

    is_stored: the graph is that of the forward pass, not of a replay. Hooks of the inputs are not
    called: autograd calls them later, with their whole gradient. Raises InexactError if the ends
    depend on a leaf that is not among the inputs, or a replay updated statistics that are not its
    own.
    """
    wants = [not isinstance(x, Tensor) or x.requires_grad for x in inputs]
    wanted: Any = [x for x, wants_one in zip(inputs, wants, strict=True) if wants_one]
    others = foreign_tensors(ends, wanted, with_statistics=not is_stored)
    found: Iterator[Any] = repeat(None)
    if ends and wanted:
        with _without_hooks([x for x in wanted if isinstance(x, Tensor)]):
            found = iter(torch.autograd.grad(ends, wanted, gradients, allow_unused=True))
    ends.clear()
    require_none(others)
    return [next(found) if wants_one else None for wants_one in wants]


_BATCH_NORMS = {f"{name}BatchNormBackward0" for name in ("Native", "Cudnn", "Miopen")}


def foreign_tensors(
    ends: Sequence[GradientEdge], inputs: Sequence[Input], *, with_statistics: bool = False
) -> list[TensorWeakRef]:
    """The leaves of the graph above these ends that are not among the inputs; and on demand the
    running means that BatchNorm updated there, other than a replay's copies.

    Raises InexactError for a reentrant checkpoint, whose graph autograd does not show.
    """
    starts = [get_gradient_edge(x) if isinstance(x, Tensor) else x for x in inputs]
    found = []
    for node, _ in upstream(ends, starts):
        kind, tensor = type(node).__name__, None
        if kind == "AccumulateGrad":
            tensor = node.variable
        elif with_statistics and kind in _BATCH_NORMS and node._saved_training:
            tensor = getattr(node._raw_saved_running_mean, "data", None)
        elif kind == "CheckpointFunctionBackward":
            raise InexactError(
                "the right-hand side calls torch.utils.checkpoint with use_reentrant=True, inside "
                "which no gradient can be asked for: write use_reentrant=False, or choose the "
                "gradient method backprop"
            )
        if isinstance(tensor, Tensor) and not hasattr(tensor, "is_computed"):
            found.append(TensorWeakRef(tensor))
    return found


def upstream(
    ends: Iterable[tuple[Any, ...]], stops: Iterable[tuple[Any, ...]] = ()
) -> Iterator[tuple[Any, int]]:
    """The places in autograd's graph at these edges and above them, each once, up to the stops: a
    node, and the number of one of its outputs."""
    seen = {edge[:2] for edge in stops}
    ahead = {edge[:2] for edge in ends} - seen
    while ahead:
        yield from ahead
        seen |= ahead
        ahead = {place for node, _ in ahead for place in node.next_functions if place[0]} - seen


def require_none(others: Sequence[TensorWeakRef]) -> None:
    """Raises InexactError if one of these tensors outlives its graph. One that does not was made by
    the right-hand side itself, and nobody can ask for its gradient."""
    kept = [tensor for other in others if (tensor := other()) is not None]
    if not all(tensor.requires_grad for tensor in kept):
        raise InexactError(
            "the right-hand side calls a BatchNorm that is none of its submodules, and running it "
            "again updated the running statistics a second time: make it a submodule of an "
            "nn.Module that is the right-hand side, or choose the gradient method backprop"
        )
    if kept:
        names = " and ".join(f"a {type(x).__name__} of shape {tuple(x.shape)}" for x in kept)
        raise InexactError(
            f"the right-hand side depends on {names} that requires a gradient and was none of its "
            "parameters: make it a parameter, or an attribute, of an nn.Module that is the "
            "right-hand side or a submodule of it (nn.ModuleList and nn.ParameterList in place of "
            "a list), and solve and differentiate with the same ones. If it is a state, the "
            "right-hand side keeps what it computed from an earlier one: compute it anew in every "
            "evaluation, or choose the gradient method backprop"
        )


@contextmanager
def _without_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    hooked = [hooks for tensor in tensors if (hooks := tensor._backward_hooks)]
    kept = [dict(hooks) for hooks in hooked]
    for hooks in hooked:
        hooks.clear()  # in place: autograd holds this dictionary for a tensor that is no leaf
    try:
        yield
    finally:
        for hooks, before in zip(hooked, kept, strict=True):
            hooks.update(before)
