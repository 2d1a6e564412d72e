"""ANODE that runs again only what memory has no room for."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from solvers.gradients.anode_auto.plan import BlockPlan, BlockSize, plan
from solvers.gradients.anode_auto.products import Counted, Recall, Remember, Remembered
from solvers.gradients.binomial import follow, schedule
from solvers.methods import (
    METHODS,
    RightHandSide,
    Step,
    Tableau,
    advance_all,
    evaluate,
    integrate,
    step_grid,
)
from solvers.parameters import add, differentiate, edges, trainable_parameters, wants_gradient
from solvers.proof import checksum, require_same
from solvers.replay import Replay


@dataclass(frozen=True)
class AnodeAuto:
    """Stores what fits into a memory budget, and runs the rest again, without its convolutions
    where their results fit.

    budget: bytes that the ODE blocks of a network may hold at once; None means what `anode` itself
    holds, so that the peak is no higher than its where blocks stand one behind the other and have
    values about as large as their states (docs/performance.md: where it is not). The first pass
    through a network is anode's, and is watched; a plan is made from it, and made anew when shapes,
    modes or steps change.

    Exact: bit for bit backprop's where blocks are stored or run again as a whole; where a block is
    divided, parameter gradients may differ by the order of summation. A network with a single
    block is stored as a whole, at backprop's cost. Not where every byte counts: anode-revolve
    needs less than anode.

    Source: ours; that the last block need not be recomputed is in Gholami, Keutzer, Biros, "ANODE",
    IJCAI 2019, figure 6.
    """

    budget: int | None = None
    _planner: "_Planner" = field(
        default_factory=lambda: _Planner(), init=False, repr=False, compare=False
    )

    learns_from_first_pass = True
    exactness = "up to summation"
    leaves_statistics = True
    is_capturable = True

    @property
    def name(self) -> str:
        return "anode-auto" if self.budget is None else f"anode-auto:budget={self.budget}"

    def __reduce__(self) -> tuple[type["AnodeAuto"], tuple[int | None]]:
        return type(self), (self.budget,)  # a copy learns for itself

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless the budget is positive."""
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"{self.name} needs a budget of at least one byte: choose more")

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        self.check(method, n_steps)
        tableau = METHODS.resolve(method)
        parameters = trainable_parameters(rhs)
        if not wants_gradient(z0, parameters):
            return integrate(rhs, z0, tableau, n_steps)
        steps = step_grid(tableau, n_steps, z0.dtype, z0.device)
        weights = sum(parameter.nbytes for parameter in parameters)
        block = self._planner.enter(rhs, z0, tableau, n_steps, weights, self.budget)
        solution = _Solution(rhs, tableau, steps, Replay(rhs, z0.device))
        z1: Tensor = _Planned.apply(self._planner, block, solution, z0, *parameters)
        return z1


@dataclass(frozen=True)
class _Solution:
    """What it takes to solve a block again."""

    rhs: RightHandSide
    tableau: Tableau
    steps: tuple[Step, ...]
    replay: Replay

    def evaluate(self, carried: tuple[Tensor, ...], begin: int, end: int) -> tuple[Tensor, ...]:
        return evaluate(self.rhs, carried, self.tableau, self.steps, begin, end)

    def advance(self, z: Tensor, begin: int, end: int) -> Tensor:
        return advance_all(self.rhs, z, self.tableau, self.steps[begin:end])


@dataclass(eq=False)
class _Block:
    """A block in one pass through its network. plan is None while it is watched; token is dead
    when autograd has let go of the block. rhs is a weak reference: the last pass is remembered,
    and is not to keep a network alive."""

    key: tuple[Any, ...]
    plan: BlockPlan | None
    size: BlockSize
    passing: "list[_Block]"
    rhs: "weakref.ref[Any]"
    budget: int | None
    token: Callable[[], object] = lambda: None
    is_done: bool = False


class _Planner:
    """Watches the blocks of networks go by, and remembers how much of each to store."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, dict[Any, tuple[BlockPlan, BlockSize]]] = (
            weakref.WeakKeyDictionary()
        )
        self._thread = threading.local()

    def enter(
        self,
        rhs: RightHandSide,
        z0: Tensor,
        tableau: Tableau,
        n_steps: int,
        parameters: int,
        budget: int | None,
    ) -> _Block:
        passing: list[_Block] = getattr(self._thread, "passing", [])
        if any(block.is_done or block.token() is None for block in passing):
            passing = []
        self._thread.passing = passing
        key = (
            *(tuple(z0.shape), z0.dtype, z0.device, tableau, n_steps),
            *(getattr(rhs, "training", None), torch.is_autocast_enabled(z0.device.type)),
            sum(block.rhs() is rhs for block in passing),
        )
        known: tuple[BlockPlan | None, BlockSize] | None = self._known.get(rhs, {}).get(key)
        if known is None:
            before = z0.nbytes
            if passing:
                before = passing[-1].size.before + _kept_since_last_block(z0)
            size = BlockSize(n_steps, tableau.n_stages, 0, z0.nbytes, before, parameters=parameters)
            known = None, size
        block = _Block(key, *known, passing, weakref.ref(rhs), budget)
        passing.append(block)
        return block

    def leave(self, block: _Block, stored: "_Watched | None") -> None:
        """After a block's backward pass; stored is what was watched in its first one."""
        block.is_done = True
        if stored is not None:
            each = block.size.n_evaluations
            products = stored.convolutions
            block.size = replace(
                block.size,
                evaluation=-(-(stored.bytes + stored.shared) // each),
                shared=stored.shared,
                products=-(-products.bytes // each),
                operations=products.operations // each,
                moved=products.moved // each,
            )
        if block is not block.passing[0] or not any(b.plan is None for b in block.passing):
            return
        if not all(b.is_done for b in block.passing):
            return
        sizes = [b.size for b in block.passing]
        for one, made in zip(block.passing, plan(sizes, block.budget), strict=True):
            rhs = one.rhs()
            if rhs is not None:  # else its network went away between the passes
                self._known.setdefault(rhs, {})[one.key] = (made, one.size)


class _Token:
    """Lives as long as autograd's memory of a block."""


class _Planned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        planner: _Planner,
        block: _Block,
        solution: _Solution,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.planner, ctx.block, ctx.solution = planner, block, solution
        ctx.parameters, ctx.token, ctx.tape = parameters, _Token(), None
        block.token = weakref.ref(ctx.token)
        ctx.save_for_backward(z0, *parameters)
        end = block.size.n_evaluations
        begin = end - (block.plan.stored if block.plan else 0)
        carried: tuple[Tensor, ...] = (z0.detach(),)
        ctx.checksums = {}  # after so many evaluations
        ctx.remembered = Remembered() if block.plan and block.plan.remembers else None
        if begin > 0:
            remember = Remember(ctx.remembered) if ctx.remembered else nullcontext()
            with solution.replay.first(), remember:
                carried = solution.evaluate(carried, 0, begin)
            ctx.checksums[begin] = checksum(carried)
        if begin < end:
            wanted = begin > 0 or ctx.needs_input_grad[3]
            with solution.replay.stored():
                carried = _started(carried) if wanted else carried
                starts = edges(carried) if wanted else []
                carried = solution.evaluate(carried, begin, end)
            ctx.tape = starts, edges(carried)
            ctx.checksums[end] = checksum(carried)  # for a second backward pass
        return carried[0].detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        block: _Block = ctx.block
        left = block.size.n_evaluations
        arriving: list[Tensor | None] = [gradient]
        found: list[Tensor | None] = [None] * len(ctx.parameters)
        tape, ctx.tape = ctx.tape, None
        if tape is not None:
            assert block.plan is not None, "what is watched is not stored"
            left -= block.plan.stored
            starts, ends = tape
            gradients = differentiate(ends, (*starts, *ctx.parameters), [gradient])
            arriving, found = [*gradients[: len(starts)]], [*gradients[len(starts) :]]
            del tape, gradient, gradients
        watched = None
        if left:
            z0_gradient, parts, watched = _run_again(ctx, left, arriving)
            found = [add(a, b) for a, b in zip(found, parts, strict=True)]
        else:
            z0_gradient = arriving[0] if arriving else None
        ctx.planner.leave(block, watched)
        return (None, None, None, z0_gradient, *found)


class _Start(torch.autograd.Function):
    """Values at which a graph begins. Unlike a leaf it does not keep them."""

    @staticmethod
    def forward(ctx: Any, trigger: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(value.detach() for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        # Reached by a right-hand side that differentiates by itself, and goes no further.
        return (None,) * (len(gradients) + 1)


def _started(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    trigger = torch.empty(0, device=values[0].device, requires_grad=True)
    started: tuple[Tensor, ...] = _Start.apply(trigger, *values)
    return started


def _run_again(
    ctx: Any, left: int, arriving: list[Tensor | None]
) -> tuple[Tensor | None, list[Tensor | None], "_Watched | None"]:
    """Gradients over the first `left` evaluations, and what storing them took where it is watched.

    arriving: the gradients in what they result in, the state and slopes.
    """
    block: _Block = ctx.block
    solution: _Solution = ctx.solution
    if block.plan and block.plan.checkpoints:
        rhs = block.rhs()
        assert rhs is not None, "the graph keeps it alive"
        assert arriving[0] is not None, "the state has a gradient"
        z0, end = ctx.saved_tensors[0], ctx.checksums[left]
        actions = schedule(block.size.n_steps, min(block.size.n_steps, block.plan.checkpoints))
        gradient, *parts = follow(
            actions, solution.advance, rhs, solution.replay, z0, ctx.parameters, end, arriving[0]
        )
        return gradient, parts, None
    z0 = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[3])
    watched = None if block.plan else _Watched()
    remembered: Remembered | None = ctx.remembered
    ctx.remembered = None  # serves one backward pass
    recall = Recall(remembered) if remembered and remembered.is_intact() else nullcontext()
    del remembered
    with solution.replay.again(), watched or nullcontext(), recall:
        carried = solution.evaluate((z0,), 0, left)
    require_same(carried, ctx.checksums[left])
    if watched:
        watched.close(z0, ctx.parameters)
    arrived = [
        (end, gradient)
        for end, gradient in zip(carried, arriving, strict=True)
        if gradient is not None and end.requires_grad
    ]
    ends, gradients = edges([end for end, _ in arrived]), [gradient for _, gradient in arrived]
    del carried, arrived  # their values are not needed
    gradient, *parts = differentiate(ends, (z0, *ctx.parameters), gradients)
    return gradient, parts, watched


class _Watched:
    """Notes what autograd keeps of what is computed inside, and which convolutions there are."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self.convolutions = Counted()

    def __enter__(self) -> None:
        self._hooks = saved_tensors_hooks(self._note, lambda tensor: tensor)
        self._hooks.__enter__()
        self.convolutions.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.convolutions.__exit__(*error)
        self._hooks.__exit__(*error)

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._sizes[storage._cdata] = storage.nbytes()
        return tensor.detach()  # an output that is kept as it is would keep itself alive

    def close(self, z0: Tensor, parameters: Sequence[Tensor]) -> None:
        """bytes: all that is kept beside these tensors; shared: those of z0, where it is kept."""
        self.shared = self._sizes.pop(z0.untyped_storage()._cdata, 0)
        for parameter in parameters:
            self._sizes.pop(parameter.untyped_storage()._cdata, None)
        self.bytes = sum(self._sizes.values())


def _kept_since_last_block(z: Tensor) -> int:
    """Bytes that the layers between the last block and z, its block too, keep for their backward
    passes."""
    kept = {z.untyped_storage()._cdata: z.nbytes}
    weights: set[int] = set()
    seen: set[Any] = set()
    nodes = [z.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen or getattr(node, "_forward_cls", None) is _Planned:
            continue
        seen.add(node)
        nodes += [parent for parent, _ in node.next_functions]
        if hasattr(node, "variable"):
            weights.add(node.variable.untyped_storage()._cdata)
        for tensor in _saved(node):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
    return sum(size for key, size in kept.items() if key not in weights)


def _saved(node: Any) -> Iterator[Tensor]:
    values = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
    values += getattr(node, "saved_tensors", ())
    for value in values:
        yield from (
            v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, Tensor)
        )
