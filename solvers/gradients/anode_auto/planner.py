"""Measure the ODE blocks of a network in its first pass, and plan the later passes."""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solvers.gradients.anode_auto.measure import bytes_since
from solvers.gradients.anode_auto.plan import BlockPlan, BlockSize, plan
from solvers.integrate import RightHandSide
from solvers.methods import Tableau


@dataclass(eq=False)
class Block:
    """A block in one pass through its network.

    plan: None in the first pass, in which the block is measured. blocks: those of the pass so far.
    rhs: a weak reference, since the last pass is kept and must not keep a network alive. graph: a
    weak reference to the block's node in autograd's graph.
    """

    key: tuple[Any, ...]
    plan: BlockPlan | None
    size: BlockSize
    blocks: "list[Block]"
    rhs: "weakref.ref[Any]"
    budget: int | None
    graph: Callable[[], object] = lambda: None
    is_done: bool = False


class Planner:
    """Plans of all blocks that were measured, by right-hand side."""

    def __init__(self) -> None:
        self._plans: weakref.WeakKeyDictionary[Any, dict[Any, tuple[BlockPlan, BlockSize]]] = (
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
    ) -> Block:
        """The block that begins its forward pass. parameters: bytes of those of rhs."""
        blocks: list[Block] = getattr(self._thread, "blocks", [])
        if any(block.is_done or block.graph() is None for block in blocks):
            blocks = []
        self._thread.blocks = blocks
        key = (
            *(tuple(z0.shape), z0.dtype, z0.device, tableau, n_steps),
            *(getattr(rhs, "training", None), torch.is_autocast_enabled(z0.device.type)),
            sum(block.rhs() is rhs for block in blocks),
        )
        known: tuple[BlockPlan | None, BlockSize] | None = self._plans.get(rhs, {}).get(key)
        if known is None:
            results = [(block.graph(), 0) for block in blocks]
            before = blocks[-1].size.before + bytes_since(results, z0) if blocks else z0.nbytes
            size = BlockSize(n_steps, tableau.n_stages, 0, z0.nbytes, before, parameters=parameters)
            known = None, size
        block = Block(key, *known, blocks, weakref.ref(rhs), budget)
        blocks.append(block)
        return block

    def leave(self, block: Block) -> None:
        """End a block's backward pass. After that of the first block, plan for all of them."""
        block.is_done = True
        blocks = block.blocks
        is_over = block is blocks[0] and all(b.is_done for b in blocks)
        if is_over and any(b.plan is None for b in blocks):
            plans = plan([b.size for b in blocks], block.budget)
            for one, made in zip(blocks, plans, strict=True):
                rhs = one.rhs()
                if rhs is not None:  # else its network was deleted between the passes
                    self._plans.setdefault(rhs, {})[one.key] = (made, one.size)
