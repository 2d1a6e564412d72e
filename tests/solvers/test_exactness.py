"""anode returns the very bits that backprop returns."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from solvers import METHODS, odeint
from tests.solvers.right_hand_sides import Counting, Linear, Tanh, Tricky

RUN_AGAIN = (
    *("anode", "anode-auto", "anode-steps", "anode-revolve:m=2", "reversible"),
    *("symplectic", "symplectic:m=2"),
)


def observe(rhs, z0, *, method, n_steps, gradient, autocast=False, backwards=1, seed=0):
    """All that a gradient method may influence: z1, gradients, buffers, the random state."""
    rhs.zero_grad()
    start = {name: buffer.clone() for name, buffer in rhs.named_buffers()}
    z0 = z0.detach().requires_grad_()
    torch.manual_seed(seed)
    with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
        z1 = odeint(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
        loss = (z1.float().sin() ** 2).sum()
    for _ in range(backwards):
        loss.backward(retain_graph=True)
    found = {"z1": z1.detach(), "z0": z0.grad, "random": torch.rand(3)}
    found |= {f"gradient of {name}": p.grad for name, p in rhs.named_parameters()}
    found |= {f"buffer {name}": buffer.clone() for name, buffer in rhs.named_buffers()}
    for name, buffer in rhs.named_buffers():
        buffer.copy_(start[name])
    return found


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        if one[name] is None or other[name] is None:
            assert one[name] is other[name], name
        else:
            assert one[name].stride() == other[name].stride(), name
            assert torch.equal(one[name], other[name]), name


@given(
    seed=st.integers(0, 2**32),
    gradient=st.sampled_from(["anode", "anode-auto"]),
    method=st.sampled_from(list(METHODS)),
    n_steps=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    channels_last=st.booleans(),
    training=st.booleans(),
    autocast=st.booleans(),
    backwards=st.integers(1, 2),
    norm=st.booleans(),
    dropout=st.booleans(),
    time=st.booleans(),
    frozen=st.booleans(),
    unused=st.booleans(),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.Softplus, nn.Identity]),
)
@hypothesis_settings(max_examples=200)
def test_anode_equals_backprop_bit_for_bit(
    seed,
    gradient,
    method,
    n_steps,
    dtype,
    channels_last,
    training,
    autocast,
    backwards,
    **layers,
):
    torch.manual_seed(seed)
    rhs = Tricky(**layers).to(dtype).train(training)
    z0 = torch.randn(3, 4, 5, 5, dtype=dtype)
    if channels_last:
        rhs = rhs.to(memory_format=torch.channels_last)
        z0 = z0.contiguous(memory_format=torch.channels_last)
    case = {
        "method": method,
        "n_steps": n_steps,
        "autocast": autocast and dtype == torch.float32,
        "backwards": backwards,
        "seed": seed % 1000,
    }
    reference = observe(rhs, z0, gradient="backprop", **case)
    assert_same_bits(observe(rhs, z0, gradient=gradient, **case), reference)
    # anode-auto watches its first pass, and has a plan for the second.
    assert_same_bits(observe(rhs, z0, gradient=gradient, **case), reference)


def test_exactness_test_can_fail():
    torch.manual_seed(0)
    rhs, z0 = Tricky(dropout=False), torch.randn(3, 4, 5, 5)
    case = {"method": "rk2", "n_steps": 2}
    with pytest.raises(AssertionError, match="z0"):
        assert_same_bits(
            observe(rhs, z0, gradient="node", **case),
            observe(rhs, z0, gradient="backprop", **case),
        )


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm])
def test_anode_is_exact_where_the_forward_pass_changes_buffers_it_depends_on(norm):
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    norm(rhs.layers[0])  # a power iteration in every evaluation in training mode
    z0 = torch.randn(3, 4, 5, 5)
    case = {"method": "rk2", "n_steps": 3, "backwards": 2}
    assert_same_bits(
        observe(rhs, z0, gradient="anode", **case),
        observe(rhs, z0, gradient="backprop", **case),
    )


def test_anode_is_exact_when_the_mode_changes_before_the_backward_pass():
    torch.manual_seed(0)
    rhs = Tricky()
    gradients = []
    for gradient in ("backprop", "anode"):
        rhs.zero_grad()
        rhs.train()
        torch.manual_seed(1)
        z1 = odeint(rhs, torch.ones(2, 4, 5, 5), method="rk2", n_steps=2, gradient=gradient)
        rhs.eval()
        z1.square().sum().backward()
        assert not rhs.training
        gradients.append(rhs.layers[0].weight.grad)
    assert torch.equal(*gradients)


def test_anode_is_exact_when_backward_runs_inside_the_autocast_context():
    torch.manual_seed(0)
    rhs = Tricky(norm=False)
    gradients = []
    for gradient in ("backprop", "anode"):
        rhs.zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z1 = odeint(rhs, torch.ones(2, 4, 5, 5), method="rk2", n_steps=2, gradient=gradient)
            z1.square().sum().backward()
        gradients.append([p.grad for p in rhs.layers.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class OwnAutocast(Tricky):
    def forward(self, t, z):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(t, z).float()


@pytest.mark.parametrize("autocast", [False, True])
def test_anode_is_exact_when_the_right_hand_side_enters_autocast_itself(autocast):
    torch.manual_seed(0)
    rhs, z0 = OwnAutocast(), torch.randn(3, 4, 5, 5)
    case = {"method": "rk2", "n_steps": 3, "autocast": autocast}
    assert_same_bits(
        observe(rhs, z0, gradient="anode", **case),
        observe(rhs, z0, gradient="backprop", **case),
    )


def test_tensors_that_modules_hold_get_their_gradient():
    torch.manual_seed(0)
    encoder = nn.Linear(3, 3).double()
    gradients = []
    for gradient in ("backprop", "anode", "anode-steps", "anode-revolve"):
        rhs = Tanh()
        with torch.no_grad():
            rhs.matrix.fill_(0.5)
        rhs.condition = encoder(torch.ones(2, 3, dtype=torch.float64))
        rhs.forward = lambda t, z, rhs=rhs: torch.tanh(z @ rhs.matrix + rhs.condition)
        encoder.zero_grad()
        z0 = torch.ones(2, 3, dtype=torch.float64)
        odeint(rhs, z0, method="rk2", n_steps=2, gradient=gradient).sum().backward()
        gradients.append(encoder.weight.grad)
    assert gradients[0].any()
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])


class Conditioned(Tanh):
    def forward(self, t, z):
        return super().forward(t, z) + self.condition


@pytest.mark.parametrize("gradient", RUN_AGAIN)
def test_hooks_are_called_once_with_the_whole_gradient(gradient):
    """Of a parameter and of a tensor that is no leaf, in the first pass and in the second, which
    anode-auto stores in part."""
    torch.manual_seed(0)
    rhs, encoder = Conditioned(), nn.Linear(3, 3).double()
    z0 = torch.randn(2, 3, dtype=torch.float64)
    seen = []

    def doubled(gradient):
        seen.append(gradient)
        return 2 * gradient

    rhs.matrix.register_hook(doubled)

    def gradients(method):
        rhs.zero_grad()
        encoder.zero_grad()
        rhs.condition = encoder(z0)
        rhs.condition.register_hook(doubled)
        z1 = odeint(rhs, z0, method="rk2", n_steps=3, gradient=method)
        z1 = odeint(rhs, z1, method="rk2", n_steps=3, gradient=method)
        z1.sum().backward()
        found = [rhs.matrix.grad, encoder.weight.grad, *sorted(seen, key=lambda g: g.numel())]
        seen.clear()
        return found

    expected = gradients("backprop")
    assert len(expected) == 4
    for _ in range(2):
        found = gradients(gradient)
        assert len(found) == 4
        if gradient == "reversible":  # other forward pass
            assert torch.equal(found[0], 2 * found[3])
        else:
            torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


class Watched(Tanh):
    def forward(self, t, z):
        self.activation = super().forward(t, z)
        return self.activation


@pytest.mark.parametrize("gradient", RUN_AGAIN)
def test_right_hand_side_may_keep_an_activation_to_look_at(gradient):
    torch.manual_seed(0)
    rhs, z0 = Watched(), torch.randn(2, 3, dtype=torch.float64)
    found = []
    for _ in range(3):
        rhs.zero_grad()
        z1 = odeint(rhs, z0, method="rk2", n_steps=3, gradient=gradient)
        odeint(rhs, z1, method="rk2", n_steps=3, gradient=gradient).sum().backward()
        assert not rhs.activation.requires_grad
        found.append(rhs.matrix.grad)
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=1e-14, atol=1e-14)


def test_lazy_module_is_refused_until_it_has_its_parameters():
    rhs = Tricky()
    rhs.layers[0] = nn.LazyConv2d(6, 3, padding=1)
    with pytest.raises(ValueError, match="lazy modules without parameters: evaluate it once"):
        odeint(rhs, torch.ones(2, 4, 5, 5), method="rk2", n_steps=1, gradient="anode")


def test_anode_leaves_batchnorm_statistics_to_the_forward_pass():
    torch.manual_seed(0)
    rhs = Tricky()
    norm = rhs.layers[1]
    z1 = odeint(rhs, torch.randn(3, 4, 5, 5), method="rk2", n_steps=2, gradient="anode")
    mean, count = norm.running_mean.clone(), int(norm.num_batches_tracked)
    assert count == 4
    z1.sum().backward()
    assert torch.equal(norm.running_mean, mean)
    assert int(norm.num_batches_tracked) == count


def test_anode_evaluates_the_right_hand_side_once_more_and_no_oftener():
    rhs = Counting(Tanh())
    z0 = torch.ones(2, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, method="rk4", n_steps=3, gradient="anode")
    assert len(rhs.times) == 12
    z1.sum().backward()
    assert len(rhs.times) == 24
    assert rhs.times[:12] == rhs.times[12:]


def test_nothing_is_recomputed_where_no_gradient_is_wanted():
    rhs = Counting(Tanh()).requires_grad_(False)
    z1 = odeint(
        rhs, torch.ones(2, 3, dtype=torch.float64), method="rk2", n_steps=2, gradient="anode"
    )
    assert not z1.requires_grad


@pytest.mark.parametrize("gradient", ["backprop", "anode"])
@pytest.mark.parametrize("method", METHODS)
def test_exact_gradients_agree_with_finite_differences(method, gradient):
    torch.manual_seed(0)
    rhs = Linear()
    z0 = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def solve(z, matrix):
        return odeint(rhs, z, method=method, n_steps=3, gradient=gradient)

    assert torch.autograd.gradcheck(solve, (z0, rhs.matrix))


def test_changing_a_weight_between_the_passes_is_noticed():
    rhs = Tanh()
    z1 = odeint(
        rhs, torch.ones(2, 3, dtype=torch.float64), method="rk2", n_steps=2, gradient="anode"
    )
    with torch.no_grad():
        rhs.matrix.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z1.sum().backward()


@pytest.mark.parametrize("gradient", ["backprop", "anode", "node"])
def test_a_plain_function_will_do_where_it_has_no_parameters(gradient):
    z0 = torch.ones(2, 3, requires_grad=True)
    z1 = odeint(lambda t, z: -z, z0, method="euler", n_steps=2, gradient=gradient)
    assert torch.equal(z1, torch.full((2, 3), 0.25))
    z1.sum().backward()
    assert z0.grad is not None
