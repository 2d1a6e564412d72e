"""node is torchdiffeq's adjoint, with exactly n steps each way."""

import torch
import torchdiffeq

from solvers import odeint
from tests.solvers.right_hand_sides import Tanh, Tricky


def test_gradient_is_the_librarys_own():
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    z0 = torch.randn(3, 4, 5, 5)
    parameters = [p for p in rhs.parameters() if p.requires_grad]
    theirs = torchdiffeq.odeint_adjoint(
        rhs, z0, torch.tensor([0.0, 1.0]), method="midpoint", options={"step_size": 0.5}
    )[-1]
    ours = odeint(rhs, z0, method="rk2", n_steps=2, gradient="node")
    for one, other in zip(
        torch.autograd.grad(ours.sin().sum(), parameters),
        torch.autograd.grad(theirs.sin().sum(), parameters),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_one_euler_step_evaluates_the_jacobian_at_the_wrong_end():
    # The paper's argument: alpha0 = alpha1 (I + df/dz(z0)) when discretised first, and
    # alpha1 (I + df/dz(z1)) when optimised first.
    torch.manual_seed(0)
    rhs = Tanh(dimension=4)
    z0 = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    alpha1 = torch.randn(1, 4, dtype=torch.float64)
    gradients, ends = {}, {}
    for gradient in ("backprop", "node"):
        z1 = odeint(rhs, z0, method="euler", n_steps=1, gradient=gradient)
        (gradients[gradient],) = torch.autograd.grad(z1, z0, alpha1)
    ends = {"backprop": z0.detach(), "node": z1.detach()}
    for gradient, z in ends.items():
        jacobian = torch.autograd.functional.jacobian(lambda z: rhs(0, z), z)[0, :, 0, :]
        expected = alpha1 @ (torch.eye(4, dtype=torch.float64) + jacobian)
        torch.testing.assert_close(gradients[gradient], expected)


def test_batchnorm_statistics_change_a_second_time():
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    z1 = odeint(rhs, torch.randn(3, 4, 5, 5), method="euler", n_steps=2, gradient="node")
    before = rhs.layers[1].running_mean.clone()
    z1.sum().backward()
    assert int(rhs.layers[1].num_batches_tracked) == 4
    assert not torch.equal(rhs.layers[1].running_mean, before)
