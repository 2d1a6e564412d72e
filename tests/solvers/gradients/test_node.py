"""node is torchdiffeq's adjoint, with exactly n steps each way."""

import math

import pytest
import torch
import torchdiffeq

from solvers import GRADIENTS, METHODS, odeint
from tests.solvers.right_hand_sides import Counting, Linear, Tanh, Tricky

SHARED = [name for name, tableau in METHODS.items() if tableau.torchdiffeq]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 61, 109, 115])
@pytest.mark.parametrize("method", SHARED)
def test_forward_pass_equals_ours_and_takes_n_steps_each_way(method, n_steps, dtype):
    torch.manual_seed(0)
    rhs = Counting(Linear(dtype=dtype))
    z0 = torch.randn(4, 3, dtype=dtype)
    ours = odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")
    rhs.times.clear()
    theirs = odeint(rhs, z0, method=method, n_steps=n_steps, gradient="node")
    assert torch.equal(theirs, ours)
    assert len(rhs.times) == n_steps * METHODS[method].n_stages
    rhs.times.clear()
    theirs.sum().backward()
    assert len(rhs.times) == n_steps * METHODS[method].n_stages
    assert rhs.times[0] == 1
    assert min(rhs.times) >= 0


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


@pytest.mark.parametrize("method", SHARED)
def test_error_falls_at_the_order_of_the_method_where_all_is_smooth(method):
    torch.manual_seed(0)
    rhs = Tanh()
    z0 = torch.randn(4, 3, dtype=torch.float64)

    def gradient(name, n_steps):
        z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=name)
        return torch.autograd.grad(z1.square().sum(), rhs.matrix)[0]

    errors = [float((gradient("node", n) - gradient("backprop", n)).norm()) for n in (32, 64)]
    assert errors[1] > 0
    assert math.log2(errors[0] / errors[1]) > METHODS[method].order - 0.2


def test_batchnorm_statistics_change_a_second_time():
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    z1 = odeint(rhs, torch.randn(3, 4, 5, 5), method="euler", n_steps=2, gradient="node")
    before = rhs.layers[1].running_mean.clone()
    z1.sum().backward()
    assert int(rhs.layers[1].num_batches_tracked) == 4
    assert not torch.equal(rhs.layers[1].running_mean, before)


def test_a_scheme_that_torchdiffeq_does_not_have_is_refused_with_one_that_fits():
    with pytest.raises(ValueError, match="'rk4'.*choose 'rk4_38'"):
        odeint(Tanh(), torch.ones(1, 3), method="rk4", n_steps=1, gradient="node")
    with pytest.raises(ValueError, match="choose 'rk4_38'"):
        GRADIENTS["node"].solve(Tanh(), torch.ones(1, 3), "rk4", 1)
