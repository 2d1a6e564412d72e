"""ANODE that runs again only what memory has no room for."""

import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from solvers.binomial import Point, Run, follow, schedule
from solvers.methods import METHODS, RightHandSide, Tableau, advance_all, integrate, step_grid
from solvers.parameters import add, differentiate, trainable_parameters, wants_gradient
from solvers.plan import BlockPlan, BlockSize, plan
from solvers.replay import Replay


@dataclass(frozen=True)
class AnodeAuto:
    """Stores as many steps as fit into a memory budget, and runs the others again.

    budget: bytes that the ODE blocks of a network may hold at once; None means what `anode` itself
    holds, so that the peak is no higher than its. The first pass through a network is anode's,
    and is watched; a plan is made from it, and made anew when shapes, modes or steps change.

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

    @property
    def name(self) -> str:
        return "anode-auto" if self.budget is None else f"anode-auto:budget={self.budget}"

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

        def run(z: Tensor, begin: int, end: int) -> Tensor:
            return advance_all(rhs, z, tableau, steps[begin:end])

        block = self._planner.enter(rhs, z0, tableau, n_steps, self.budget)
        replay = Replay(rhs, z0.device)
        z1: Tensor = _Planned.apply(self._planner, block, run, replay, z0, *parameters)
        return z1


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
    token: Any = None
    is_done: bool = False


class _Planner:
    """Watches the blocks of networks go by, and remembers how many steps of each to store."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, dict[Any, tuple[BlockPlan, BlockSize]]] = (
            weakref.WeakKeyDictionary()
        )
        self._thread = threading.local()

    def enter(
        self, rhs: RightHandSide, z0: Tensor, tableau: Tableau, n_steps: int, budget: int | None
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
            before = 0
            if passing:
                last = passing[-1].size
                before = last.before + last.state + _kept_since_last_block(z0)
            known = None, BlockSize(n_steps, 0, z0.nbytes, before)
        block = _Block(key, *known, passing, weakref.ref(rhs), budget)
        passing.append(block)
        return block

    def leave(self, block: _Block, stored_bytes: int) -> None:
        """After a block's backward pass; its first one tells what its steps store."""
        block.is_done = True
        if block.plan is None:
            block.size = replace(block.size, step=-(-stored_bytes // block.size.n_steps))
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
        run: Run,
        replay: Replay,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.planner, ctx.block, ctx.run, ctx.replay = planner, block, run, replay
        ctx.parameters, ctx.token, ctx.tape = parameters, _Token(), None
        block.token = weakref.ref(ctx.token)
        ctx.save_for_backward(z0, *parameters)
        end = block.size.n_steps
        begin = end - (block.plan.stored if block.plan else 0)
        z = z0
        if begin > 0:
            with replay.first():
                z = run(z0, 0, begin)
        if begin < end:
            z = z.detach().requires_grad_(begin > 0 or ctx.needs_input_grad[4])
            with replay.stored():
                z1 = run(z, begin, end)
            ctx.tape = z, z1
            z = z1
        return z.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        block: _Block = ctx.block
        left = block.size.n_steps
        found: list[Tensor | None] = [None] * len(ctx.parameters)
        tape, ctx.tape = ctx.tape, None
        if tape is not None:
            assert block.plan is not None, "what is watched is not stored"
            left -= block.plan.stored
            start, end = tape
            gradient, *found = differentiate(end, (start, *ctx.parameters), gradient)
            del tape, start, end
        kept = 0
        if left:
            gradient, parts, kept = _run_again(ctx, left, gradient)
            found = [add(a, b) for a, b in zip(found, parts, strict=True)]
        ctx.planner.leave(block, kept)
        return (None, None, None, None, gradient, *found)


def _run_again(ctx: Any, left: int, gradient: Tensor) -> tuple[Tensor, list[Tensor | None], int]:
    """Gradients over the first `left` steps, and what storing them took where it is watched."""
    block: _Block = ctx.block
    if block.plan and block.plan.checkpoints:
        rhs = block.rhs()
        assert rhs is not None, "the graph keeps it alive"
        start = Point(ctx.saved_tensors[0].detach(), ctx.replay)
        actions = schedule(left, min(left, block.plan.checkpoints))
        return *follow(actions, ctx.run, rhs, ctx.parameters, start, gradient), 0
    z0 = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[4])
    watched = None if block.plan else _Watched()
    with ctx.replay.again(), watched or nullcontext():
        z1 = ctx.run(z0, 0, left)
    kept = watched.bytes_beside((z0, *ctx.parameters)) if watched else 0
    gradient, *parts = differentiate(z1, (z0, *ctx.parameters), gradient)
    return gradient, parts, kept


class _Watched(saved_tensors_hooks):
    """Notes what autograd keeps of what is computed inside."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        super().__init__(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._sizes[storage._cdata] = storage.nbytes()
        return tensor.detach()  # an output that is kept as it is would keep itself alive

    def bytes_beside(self, tensors: Iterable[Tensor]) -> int:
        """All bytes but those of these tensors."""
        others = {tensor.untyped_storage()._cdata for tensor in tensors}
        return sum(size for key, size in self._sizes.items() if key not in others)


def _kept_since_last_block(z: Tensor) -> int:
    """Bytes that the layers between the last block and z keep for their backward pass."""
    kept: dict[int, int] = {}
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
