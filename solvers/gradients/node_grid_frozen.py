"""The continuous adjoint without drift, with BatchNorm's statistics left alone."""

from solvers.gradients.node_grid import NodeGrid


class NodeGridFrozen(NodeGrid):
    """node-grid, but that its backward solve leaves no trace in the right-hand side's buffers.

    An ablation: of node's three faults, inconsistency, drift and polluted statistics, it has the
    first alone. What separates it from anode in training is the damage of the inconsistency, what
    separates it from node-frozen that of the drift. Not for training; as node-grid.

    Source: as node-grid; the separation is ours.
    """

    name = "node-grid-frozen"
    frozen = True
