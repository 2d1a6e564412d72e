"""symplectic: the published recursion. Its exactness, evaluations and memory are stated with those
of the other methods."""

import pytest
import torch
from torch import nn

from solvers import odeint
from tests.solvers.right_hand_sides import Counting, Tanh
from tests.solvers.test_exactness import SCHEMES


@pytest.mark.parametrize("method", SCHEMES, ids=lambda tableau: tableau.name)
def test_gradient_agrees_with_the_published_recursion(method):
    """κᵢ = h bᵢ λ + h Σ_{j>i} aⱼᵢ μⱼ, μᵢ = J(Yᵢ)ᵀ κᵢ, λ += Σ μᵢ, written out."""
    torch.manual_seed(0)
    rhs = Counting(Tanh())
    z0 = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    n_steps, h = 3, 1 / 3
    z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient="symplectic")
    stages, adjoint = list(rhs.states), torch.randn_like(z1)
    expected, in_parameter = adjoint, 0
    a = [(), *([w * c.scale for w in c.weights] for c in method.stages)]
    b = [weight * method.update.scale for weight in method.update.weights]
    for step in reversed(range(n_steps)):
        mu = {}
        for i in reversed(range(method.n_stages)):
            kappa = h * b[i] * expected + h * sum(a[j][i] * mu[j] for j in mu)
            y = stages[step * method.n_stages + i].requires_grad_()
            slope = rhs.inner(None, y)
            mu[i], part = torch.autograd.grad(slope, (y, rhs.inner.matrix), kappa)
            in_parameter = in_parameter + part
        expected = expected + sum(mu.values())
    found = torch.autograd.grad(z1, (z0, rhs.inner.matrix), adjoint)
    torch.testing.assert_close(found, (expected, in_parameter), rtol=1e-13, atol=1e-13)


class Returning(nn.Module):
    """f whose slope is a tensor that it keeps."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, t, z):
        return self.kept


@pytest.mark.parametrize("trainable", [False, True])
def test_right_hand_side_may_return_a_tensor_that_it_keeps(trainable):
    kept = torch.ones(2, 3, dtype=torch.float64)
    rhs = Returning(nn.Parameter(kept) if trainable else kept)
    z0 = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        odeint(rhs, z0, method="rk2", n_steps=2, gradient="symplectic").sum().backward()
    assert torch.equal(z0.grad, 2 * torch.ones_like(z0))
    assert rhs.kept.is_leaf
    assert rhs.kept.requires_grad == trainable
    assert not trainable or torch.equal(rhs.kept.grad, z0.grad)
