import pytest
import torch

import models
from bench.instruments import gradient_error
from models import NETWORKS, build, ode_blocks
from models.layers import DepthVarying
from models.resnet import right_hand_side
from solvers import GRADIENTS, odeint

EXPECTED = {
    "alexnet": (1_756_682, 192, 1),
    "resnet4": (7_706, 256, 1),
    "resnet10": (44_186, 128, 2),
    "squeezenext": (461_466, 128, 4),
    "resnet18": (11_173_962, 512, 4),
}
"""Network → parameters, features, and ODE blocks."""


def make(network, gradient="anode", **kwargs):
    torch.manual_seed(0)
    return build(network, **{"method": "rk2", "n_steps": 2, "gradient": gradient, **kwargs})


def test_every_network_is_covered():
    assert set(EXPECTED) == set(NETWORKS)


@pytest.mark.parametrize("network", EXPECTED)
def test_network_has_its_parameters_blocks_and_a_logit_for_each_class(network):
    parameters, features, n_blocks = EXPECTED[network]
    for num_classes in (10, 100):
        net = make(network, num_classes=num_classes)
        count = sum(parameter.numel() for parameter in net.parameters())
        assert count == parameters + (num_classes - 10) * (features + 1)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    blocks = list(ode_blocks(net))
    assert len(blocks) == n_blocks
    assert all((b.method, b.n_steps, b.gradient) == ("rk2", 2, "anode") for b in blocks)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_anode_gradient_of_a_network_is_backprops_bit_for_bit(network, dtype):
    images = torch.randn(4, 3, 32, 32, dtype=dtype)
    found = {}
    for gradient in ("backprop", "anode"):
        net = make(network, gradient).to(dtype)
        net(images).logsumexp(1).sum().backward()
        found[gradient] = [p.grad for p in net.parameters()] + list(net.buffers())
    assert all(torch.equal(a, b) for a, b in zip(*found.values(), strict=True))


@pytest.mark.parametrize("network", ["alexnet", "resnet10"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_forward_pass_is_the_same_bits_for_every_gradient_method(network, memory_format):
    same_scheme = {name for name in GRADIENTS if "rk45" not in name} - {"reversible", "mixed"}
    images = torch.randn(4, 3, 32, 32).contiguous(memory_format=memory_format)
    logits = [
        make(network, gradient).to(memory_format=memory_format)(images) for gradient in same_scheme
    ]
    assert all(torch.equal(logits[0], other) for other in logits[1:])


def test_same_random_state_gives_the_same_weights_for_every_gradient_method():
    weights = [
        list(make("resnet10", gradient).parameters()) for gradient in ("baseline", *GRADIENTS)
    ]
    for other in weights[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights[0], other, strict=True))


def test_baseline_blocks_are_residual_blocks():
    net = make("resnet4", "baseline")
    (block,) = ode_blocks(net)
    z = torch.randn(2, 16, 32, 32)
    assert torch.equal(block.eval()(z), z + block.rhs(torch.tensor(0.0), z))
    assert block.gradient == "backprop"


def test_convolutions_with_bias_are_initialised_as_published():
    for network in ("alexnet", "squeezenext"):
        for module in make(network).modules():
            if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                assert not module.bias.any()
                fan = sum(torch.nn.init._calculate_fan_in_and_fan_out(module.weight))
                bound = 2**0.5 * (6 / fan) ** 0.5
                assert 0.9 * bound < float(module.weight.detach().abs().max()) <= bound


def test_gradient_method_may_be_reassigned():
    net = make("resnet4")
    (block,) = ode_blocks(net)
    block.gradient = "node"
    assert "node" in repr(block)
    z = torch.randn(2, 16, 32, 32)
    assert torch.equal(
        block.eval()(z), odeint(block.rhs, z, method="rk2", n_steps=2, gradient="node")
    )


def tiny(ode_block, num_classes):
    """A user's own network."""
    rhs = models.layers.Autonomous(torch.nn.Conv2d(3, 3, 1))
    return torch.nn.Sequential(
        ode_block(rhs), torch.nn.Flatten(), torch.nn.Linear(3072, num_classes)
    )


def test_networks_are_built_by_name_alias_and_module():
    net = make("tests.models.test_networks:tiny")
    assert net(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert NETWORKS.canonical("sqnxt") == "squeezenext"
    assert NETWORKS.canonical("resnet") == "resnet18"


def test_chain_has_the_requested_blocks_and_width_and_is_resnet4_with_one_block():
    assert len(list(ode_blocks(make("models.resnet:CHAIN:blocks=3")))) == 3
    one, resnet4 = make("models.resnet:CHAIN:blocks=1"), make("resnet4")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(one(images), resnet4(images))
    chain = make("models.resnet:CHAIN:width=24")
    with models.block_inputs(chain) as inputs:
        assert chain(images).shape == (2, 10)
    assert [z.shape[1] for _, z in inputs] == [24]
    with pytest.raises(ValueError, match="at least one channel"):
        make("models.resnet:CHAIN:width=0")


def test_a_chain_with_groupnorm_has_no_running_statistics_in_its_right_hand_side():
    network, resnet4 = make("models.resnet:CHAIN:groups=4"), make("resnet4")
    (block,) = ode_blocks(network)
    assert not list(block.buffers())
    assert sum(isinstance(m, torch.nn.GroupNorm) for m in block.modules()) == 2
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(network) == count(resnet4)
    with pytest.raises(ValueError, match="16 channels into 3 groups: choose a divisor"):
        make("models.resnet:CHAIN:groups=3")


def test_weights_that_depend_on_depth_are_linear_between_two_sets():
    start, end = right_hand_side(4).eval(), right_hand_side(4).eval()
    rhs = DepthVarying(start, end)
    z = torch.randn(2, 4, 8, 8)
    for t, expected in ((0.0, start), (1.0, end)):
        torch.testing.assert_close(rhs(torch.tensor(t), z), expected(None, z))
    with torch.no_grad():
        for parameter, other in zip(start.parameters(), rhs.end, strict=True):
            other.copy_(3 * parameter)
        half = rhs(torch.tensor(0.5), z)
        for parameter in start.parameters():
            parameter *= 2
    torch.testing.assert_close(half, start(None, z))
    with pytest.raises(ValueError, match="1 or 2 sets of weights, not 3"):
        make("models.resnet:CHAIN:sets=3")


def test_anode_is_exact_where_weights_depend_on_depth():
    network = make("models.resnet:CHAIN:sets=2", method="rk4", n_steps=2, gradient="anode")
    found = gradient_error.measure(network, torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert found.error == found.statistics_error == 0
