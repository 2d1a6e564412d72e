"""ANODE that runs again only what does not fit into memory."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from solvers.binomial import run_schedule, schedule
from solvers.gradients.anode_auto.measure import Convolutions, measured
from solvers.gradients.anode_auto.planner import Block, Planner
from solvers.integrate import RightHandSide, evaluate, integrate, step_grid
from solvers.methods import METHODS, Tableau
from solvers.parameters import add, differentiate, edges, trainable_parameters, wants_gradient
from solvers.proof import checksum, first_order, require_same
from solvers.replay import Replay


@dataclass(frozen=True)
class AnodeAuto:
    """Stores what fits into a memory budget, and runs the rest again.

    budget: bytes that the ODE blocks of a network may store at once; None means what `anode` itself
    stores (docs/performance.md: where the peak is higher). The first pass through a network is
    anode's, and is measured for a plan, which is made again when shapes, modes or steps change.

    Only where a block is divided, parameter gradients may differ by the order of summation. A
    single block is stored as a whole. Not where every byte counts: anode-revolve needs less.

    Source: ours; that the last block need not be recomputed is in Gholami, Keutzer, Biros, "ANODE",
    IJCAI 2019, figure 6.
    """

    budget: int | None = None
    _planner: Planner = field(default_factory=Planner, init=False, repr=False, compare=False)

    learns_from_first_pass = True
    exactness = "up to summation"
    leaves_statistics = True
    is_capturable = True

    @property
    def name(self) -> str:
        return "anode-auto" if self.budget is None else f"anode-auto:budget={self.budget}"

    def __reduce__(self) -> tuple[type["AnodeAuto"], tuple[int | None]]:
        return type(self), (self.budget,)  # a copy makes its own plans

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raises ValueError unless the budget is positive."""
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"{self.name} needs a budget of at least one byte: choose more")

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        tableau = METHODS.resolve(method)
        parameters = trainable_parameters(rhs)
        if not wants_gradient(z0, parameters):
            return integrate(rhs, z0, tableau, n_steps)
        weights = sum(parameter.nbytes for parameter in parameters)
        block = self._planner.enter(rhs, z0, tableau, n_steps, weights, self.budget)
        steps = step_grid(tableau, n_steps, z0.dtype, z0.device)
        run = partial(evaluate, tableau=tableau, steps=steps)
        replay = Replay(rhs, z0.device)
        z1: Tensor = _Planned.apply(self._planner, block, run, replay, z0, *parameters)
        return z1


class _Planned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        planner: Planner,
        block: Block,
        run: Callable[..., tuple[Tensor, ...]],
        replay: Replay,
        z0: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.planner, ctx.block, ctx.run, ctx.replay = planner, block, run, replay
        ctx.parameters, ctx.tape = parameters, None
        block.graph = weakref.ref(ctx)
        ctx.save_for_backward(z0, *parameters)
        end = block.size.n_evaluations
        begin = end - (block.plan.stored if block.plan else 0)
        carried: tuple[Tensor, ...] = (z0.detach(),)
        ctx.checksums = {}  # by number of evaluations
        if begin > 0:
            with replay.first() as rhs:
                carried = run(rhs, carried, begin=0, end=begin)
            ctx.checksums[begin] = checksum(carried)
        if begin < end:
            wanted = begin > 0 or ctx.needs_input_grad[4]
            with replay.stored() as rhs:
                trigger = torch.empty(0, device=z0.device, requires_grad=wanted)
                carried = _Start.apply(trigger, *carried)
                starts = edges(carried)
                carried = run(rhs, carried, begin=begin, end=end)
            ctx.tape = starts, edges(carried)
            ctx.checksums[end] = checksum(carried)  # for a second backward pass
        return carried[0].detach()

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        block: Block = ctx.block
        left = block.size.n_evaluations
        arriving: list[Tensor | None] = [gradient]
        found: list[Tensor | None] = [None] * len(ctx.parameters)
        tape, ctx.tape = ctx.tape, None
        if tape is not None:
            assert block.plan is not None, "a block that is measured is not stored"
            left -= block.plan.stored
            starts, ends = tape
            inputs = (*starts, *ctx.parameters)
            gradients = differentiate(ends, inputs, [gradient], is_stored=True)
            arriving, found = [*gradients[: len(starts)]], [*gradients[len(starts) :]]
            del tape, gradient, gradients
        if left:
            z0_gradient, *parts = _run_again(ctx, left, arriving)
            found = [add(a, b) for a, b in zip(found, parts, strict=True)]
        else:
            z0_gradient = arriving[0] if arriving else None
        ctx.planner.leave(block)
        return (None, None, None, None, z0_gradient, *found)


class _Start(torch.autograd.Function):
    """Values at which a graph begins. Unlike a leaf it does not keep them."""

    @staticmethod
    def forward(ctx: Any, trigger: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(value.detach() for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        # Called by a right-hand side that differentiates inside itself; its graph ends here.
        return (None,) * (len(gradients) + 1)


def _run_again(ctx: Any, left: int, arriving: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """The gradients in z0 and in the parameters over the first `left` evaluations, from those that
    arrive in their results, the state and slopes. Measures the block in its first pass."""
    block: Block = ctx.block
    if block.plan and block.plan.checkpoints:
        assert arriving[0] is not None, "the state has a gradient"
        z0, end = ctx.saved_tensors[0], ctx.checksums[left]
        actions = schedule(block.size.n_steps, min(block.size.n_steps, block.plan.checkpoints))

        def run(rhs: RightHandSide, z: Tensor, begin: int, end: int) -> Tensor:
            n = block.size.n_stages
            return ctx.run(rhs, (z,), begin=begin * n, end=end * n)[0]

        return run_schedule(actions, run, ctx.replay, z0, ctx.parameters, end, arriving[0])
    z0 = ctx.saved_tensors[0].detach().requires_grad_(ctx.needs_input_grad[4])
    counted = None if block.plan else Convolutions()
    with ctx.replay.again() as rhs, counted or nullcontext():
        carried = ctx.run(rhs, (z0,), begin=0, end=left)
    require_same(carried, ctx.checksums[left])
    if counted:
        size = measured(block.size, carried, (z0, *ctx.parameters))
        block.size = replace(size, operations=counted.operations // size.n_evaluations)
    arrived = [
        (end, gradient)
        for end, gradient in zip(carried, arriving, strict=True)
        if gradient is not None and end.requires_grad
    ]
    ends, gradients = edges([end for end, _ in arrived]), [gradient for _, gradient in arrived]
    del carried, arrived  # their values are not needed
    return differentiate(ends, (z0, *ctx.parameters), gradients)
