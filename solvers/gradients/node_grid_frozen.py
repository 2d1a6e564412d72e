"""The continuous adjoint, each step's state restored, BatchNorm's statistics left alone."""

from solvers.gradients.node_grid import NodeGrid


class NodeGridFrozen(NodeGrid):
    """node-grid, but that its backward solve leaves no trace in the right-hand side's buffers.

    An ablation. What separates it from node-grid in training is the second update of the running
    statistics, what separates it from node-frozen the drift from step to step, and what separates
    it from anode all that is left of node's gradient error. Not for training; as node-grid.

    Source: as node-grid; the separation is ours.
    """

    name = "node-grid-frozen"
    leaves_statistics = True
    frozen = True
