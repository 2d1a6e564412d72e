"""Exact gradients of a solve with adaptive steps."""

from solvers.checkpoint import CheckpointedEvaluations
from solvers.gradients.adaptive.backprop_rk45 import BackpropRK45
from solvers.integrate import RightHandSide


class AnodeRK45(BackpropRK45):
    """backprop-rk45 that keeps the states of the accepted steps, and evaluates f at them again.

    The forward pass is torchdiffeq.odeint's with dopri5. Of each accepted step it keeps time,
    length and the state of each evaluation; a rejected step leaves nothing. The backward pass takes
    these evaluations from the last to the first, each with a graph of its own, as symplectic does.

    Memory O(L·N) for N accepted steps, six states each, plus what one evaluation stores; six
    evaluations for each accepted step, and one more. Not where the number of evaluations must be
    known, nor in a CUDA graph, as the host reads the error of each step.

    Source: Zhuang et al., "Adaptive Checkpoint Adjoint Method for Gradient Estimation in Neural
    ODE", ICML 2020, algorithm 2; the checkpoints: Matsubara, Miyatake, Yaguchi, "Symplectic
    Adjoint Method for Exact Gradient of Neural ODE with Minimal Memory", NeurIPS 2021.
    """

    family = "anode-rk45"

    def evaluated(self, rhs: RightHandSide) -> RightHandSide:
        return CheckpointedEvaluations(rhs)
