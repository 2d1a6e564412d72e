"""The peers do the same work: the same forward pass, and the gradient that they promise."""

import pytest
import torch

from bench.peers.original import ORIGINAL
from bench.peers.torch_checkpoint import BLOCK, STEPS
from solvers import METHODS, odeint
from tests.solvers.right_hand_sides import Counting, Tricky
from tests.solvers.test_exactness import assert_same_bits, observe

PEERS = (ORIGINAL, BLOCK, STEPS)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("method", METHODS)
def test_forward_pass_and_gradient_are_backprops(peer, method):
    torch.manual_seed(0)
    rhs = Tricky(norm=False, dropout=False).double()
    z0 = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    ours = observe(rhs, z0, method=method, n_steps=3, gradient=peer)
    reference = observe(rhs, z0, method=method, n_steps=3, gradient="backprop")
    assert torch.equal(ours.pop("z1"), reference.pop("z1"))
    for name, value in reference.items():
        if value is None:
            assert ours[name] is None, name
        else:
            torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_step_is_run_again_once(peer):
    rhs = Counting(Tricky(norm=False, dropout=False))
    z0 = torch.randn(2, 4, 5, 5, requires_grad=True)
    odeint(rhs, z0, method="rk2", n_steps=3, gradient=peer).sum().backward()
    assert len(rhs.times) == 12


def test_original_moves_batchnorm_statistics_twice_and_ours_do_not():
    torch.manual_seed(0)
    rhs, z0 = Tricky(dropout=False), torch.randn(3, 4, 5, 5)
    case = {"method": "rk2", "n_steps": 2}
    reference = observe(rhs, z0, gradient="backprop", **case)
    with pytest.raises(AssertionError, match="running_mean"):
        assert_same_bits(observe(rhs, z0, gradient=ORIGINAL, **case), reference)
    assert_same_bits(observe(rhs, z0, gradient="anode", **case), reference)
