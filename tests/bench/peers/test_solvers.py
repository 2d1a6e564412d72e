"""torchode, torchdyn and diffrax solve the same problem, and have the gradient that they say."""

import pytest
import torch
from torch import nn

from bench.peers import with_diffrax, with_torchdyn, with_torchode
from models.layers import Autonomous, conv_bn_relu
from solvers import GRADIENTS, METHODS, odeint
from tests.solvers.test_exactness import observe

IN_TORCH = (
    with_torchode.BACKPROP,
    with_torchode.ADJOINT,
    with_torchdyn.BACKPROP,
    with_torchdyn.ADJOINT,
)
IN_JAX = (with_diffrax.RECURSIVE, with_diffrax.BACKSOLVE)


def right_hand_side():
    torch.manual_seed(0)
    return Autonomous(*conv_bn_relu(4, 4, (3, 1), bias=True), nn.Tanh())


def state(memory_format=torch.channels_last):
    torch.manual_seed(1)
    return torch.randn(3, 4, 5, 5, dtype=torch.float64).to(memory_format=memory_format)


def assert_reproduces(peer, z0, **case):
    rhs = right_hand_side().double()
    ours = observe(rhs, z0, gradient=peer, **case)
    assert ours["z1"].stride() == z0.stride()
    reference = observe(rhs, z0, gradient=peer.reproduces, **case)
    compared = [name for name, value in reference.items() if not name.startswith("buffer")]
    assert {"z1", "z0"} < set(compared)
    for name in compared:
        torch.testing.assert_close(ours[name], reference[name], rtol=1e-10, atol=1e-12, msg=name)


def required(peer):
    pytest.importorskip(type(peer).__name__.lower())
    return peer


@pytest.mark.parametrize("peer", IN_TORCH, ids=lambda peer: peer.name)
@pytest.mark.parametrize("method", METHODS)
def test_peers_in_torch_have_the_gradient_that_they_reproduce(peer, method):
    if peer.reproduces == "node" and METHODS[method].torchdiffeq is None:
        pytest.skip("node has no such scheme to compare with")
    assert_reproduces(required(peer), state(), method=method, n_steps=3)


@pytest.mark.parametrize("peer", IN_TORCH, ids=lambda peer: peer.name)
def test_contiguous_states_stay_contiguous(peer):
    z0 = state(torch.contiguous_format)
    assert_reproduces(required(peer), z0, method="rk2", n_steps=2)


@pytest.mark.parametrize("peer", IN_JAX, ids=lambda peer: peer.name)
def test_diffrax_has_the_gradient_that_it_reproduces(peer):
    required(peer).forget()
    assert_reproduces(peer, state(), method="rk2", n_steps=2)
    assert peer.compile_seconds > 0


def test_diffrax_takes_our_schemes_as_tableaus():
    required(with_diffrax.RECURSIVE)
    rhs, z0 = right_hand_side().double().eval(), state()
    case = {"method": "rk4_38", "n_steps": 1}
    with torch.no_grad():
        ours = odeint(rhs, z0, gradient=with_diffrax.RECURSIVE, **case)
        reference = odeint(rhs, z0, gradient="backprop", **case)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n_steps", [1, 3, 7, 10])
@pytest.mark.parametrize("peer", IN_TORCH[:2], ids=lambda peer: peer.name)
def test_torchode_takes_no_step_too_many(peer, n_steps):
    times = []
    rhs = Autonomous(nn.Conv2d(4, 4, 1))
    rhs.register_forward_pre_hook(lambda module, given: times.append(given[0]))
    z0 = state().float().requires_grad_()
    z1 = odeint(rhs, z0, method="rk2", n_steps=n_steps, gradient=required(peer))
    assert len(times) == 2 * n_steps
    z1.sum().backward()
    assert len(times) == (4 if peer.reproduces == "node" else 2) * n_steps


def test_peers_say_which_method_of_ours_they_reproduce():
    assert {peer.reproduces for peer in (*IN_TORCH, *IN_JAX)} <= set(GRADIENTS)
