"""The continuous adjoint with BatchNorm's statistics left alone."""

from solvers.gradients.node import Node


class NodeFrozen(Node):
    """node, but that its backward solve leaves no trace in the right-hand side's buffers.

    An ablation: the gradient is node's, and BatchNorm's running statistics see the forward pass
    alone. In training mode BatchNorm does not use them, so both train the same weights, and what
    separates their test accuracies is the second update of the statistics. What separates it from
    anode is not the gradient alone: other weights have other running statistics, which mix the
    evaluations of a step in both.

    Source: as node; the separation is ours.
    """

    name = "node-frozen"
    leaves_statistics = True
    frozen = True
