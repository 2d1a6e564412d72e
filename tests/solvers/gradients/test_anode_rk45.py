"""anode-rk45: torchdiffeq's adaptive solve, and the gradient of what it computed."""

import gc
import weakref
from unittest.mock import patch

import pytest
import torch
import torchdiffeq
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torchdiffeq._impl import rk_common

from bench.instruments.memory import peak_bytes
from models.resnet import right_hand_side
from solvers import InexactError, adaptive, odeint
from solvers.gradients.anode_rk45 import AnodeRK45
from solvers.with_torchdiffeq import last_state
from tests.solvers import test_proof
from tests.solvers.right_hand_sides import Counting, Tanh, Tricky
from tests.solvers.test_exactness import observe


class Stored:
    """Backpropagation through torchdiffeq.odeint with the lengths of its steps held constant.

    torchdiffeq differentiates the choice of the first length, and of no other."""

    name = "stored"

    def __init__(self, rtol=1e-3, atol=1e-3):
        self.tolerances = {"rtol": rtol, "atol": atol}

    def solve(self, rhs, z0, method, n_steps):
        times = torch.tensor([0, 1], dtype=z0.dtype)
        constant = torch.no_grad()(rk_common._select_initial_step)
        with patch.object(rk_common, "_select_initial_step", constant):
            return last_state(
                torchdiffeq.odeint(rhs, z0, times, method="dopri5", **self.tolerances), z0
            )


CASE = {"method": "rk2", "n_steps": 1}


@given(
    seed=st.integers(0, 2**32),
    exponent=st.floats(1, 7),
    scale=st.floats(0.1, 5),
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
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Softplus]),
)
@hypothesis_settings(max_examples=60)
def test_gradient_is_that_of_the_forward_pass_with_its_steps(
    seed, exponent, scale, dtype, channels_last, training, autocast, backwards, **layers
):
    torch.manual_seed(seed)
    layers["dropout"] &= exponent < 3  # its noise forbids long steps
    rhs = Tricky(**layers).to(dtype).train(training)
    z0 = scale * torch.randn(2, 4, 5, 5, dtype=dtype)
    if channels_last:
        rhs = rhs.to(memory_format=torch.channels_last)
        z0 = z0.contiguous(memory_format=torch.channels_last)
    autocast = autocast and dtype == torch.float32
    if dtype == torch.float32:
        exponent = min(exponent, 2 if autocast else 4)
    case = {**CASE, "backwards": backwards, "autocast": autocast, "seed": seed % 1000}
    how = {"rtol": 10**-exponent, "atol": 10**-exponent}
    try:
        ours = observe(rhs, z0, gradient=AnodeRK45(**how), **case)
    except ValueError as error:
        assert "step underflows" in str(error) or "takes more than" in str(error)  # noqa: PT017
        assert layers["dropout"] or autocast
        return
    reference = observe(rhs, z0, gradient=Stored(**how), **case)
    assert ours.keys() == reference.keys()
    difference, whole = [], []
    for name, other in reference.items():
        one = ours[name]
        if one is None or other is None:
            assert one is other, name
        elif name == "z0" or name.startswith("gradient of"):
            difference.append((one - other).norm())
            whole.append(other.norm())
        else:
            assert torch.equal(one, other), name
    limit = {True: 2e-2, False: 1e-14 if dtype == torch.float64 else 1e-5}[autocast]
    assert float(torch.stack(difference).norm()) <= limit * float(torch.stack(whole).norm())


class Steep(Tanh):
    """f whose Lipschitz constant jumps to 60 at t = 1/2, so that steps are rejected."""

    def forward(self, t, z):
        return torch.tanh(z @ self.matrix.T) - torch.where(t > 0.5, 60.0, 0.0) * (z - 1)


class Recording:
    def __init__(self, rhs):
        self.rhs, self.accepted, self.rejected = rhs, [], 0

    def __call__(self, t, z):
        return self.rhs(t, z)

    def callback_accept_step(self, t, z, length):
        self.accepted.append((t, length, z))

    def callback_reject_step(self, t, z, length):
        self.rejected += 1


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6, 1e-9])
def test_steps_are_those_that_torchdiffeq_accepts(tolerance):
    torch.manual_seed(0)
    rhs = Recording(Steep())
    z0 = torch.randn(4, 3, dtype=torch.float64)
    tolerances = {"rtol": tolerance, "atol": tolerance}
    times = torch.tensor([0, 1], dtype=torch.float64)
    theirs = torchdiffeq.odeint(rhs, z0, times, method="dopri5", **tolerances)[-1]
    solution = adaptive.AdaptiveSolve("", rhs.rhs, z0, **tolerances)
    assert torch.equal(solution.solve(), theirs)
    assert len(solution.accepted) == len(rhs.accepted)
    for (before, _), (t, length, z) in zip(solution.accepted, rhs.accepted, strict=True):
        assert torch.equal(before.t1, t)
        assert torch.equal(before.dt, length)
        assert torch.equal(before.y1, z)
    assert rhs.rejected


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_forward_pass_is_that_of_node_rk45_bit_for_bit(tolerance):
    torch.manual_seed(0)
    rhs = Tricky(dropout=False).to(memory_format=torch.channels_last)
    z0 = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    found = [
        odeint(rhs, z0, gradient=f"{name}:rtol={tolerance}:atol={tolerance}", **CASE)
        for name in ("anode-rk45", "node-rk45")
    ]
    assert torch.equal(*found)
    assert found[0].stride() == found[1].stride()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_rejected_steps_have_no_part_in_the_gradient(tolerance):
    torch.manual_seed(0)
    rhs, z0 = Steep(), torch.randn(4, 3, dtype=torch.float64)
    how = {"rtol": tolerance, "atol": tolerance}
    ours = observe(rhs, z0, gradient=AnodeRK45(**how), **CASE)
    reference = observe(rhs, z0, gradient=Stored(**how), **CASE)
    for name in ("z0", "gradient of matrix"):
        error = float((ours[name] - reference[name]).norm() / reference[name].norm())
        assert error <= 1e-14, name


def test_backward_pass_evaluates_accepted_steps_alone():
    torch.manual_seed(0)
    rhs = Counting(Steep())
    z0 = torch.randn(4, 3, dtype=torch.float64)
    z1 = odeint(rhs, z0, gradient="anode-rk45", **CASE)
    forward = len(rhs.times)
    recording = Recording(rhs.inner)
    times = torch.tensor([0, 1], dtype=torch.float64)
    torchdiffeq.odeint(recording, z0, times, method="dopri5", rtol=1e-3, atol=1e-3)
    accepted = len(recording.accepted)
    assert forward == 2 + 6 * (accepted + recording.rejected)
    rhs.times.clear()
    z1.sum().backward()
    assert len(rhs.times) == 1 + 6 * accepted


def test_memory_is_two_states_for_each_accepted_step():
    torch.manual_seed(0)
    rhs, z0 = right_hand_side(16), torch.randn(8, 16, 32, 32)
    peaks, accepted = [], []
    for tolerance in (1e-3, 1e-5):
        how = {"rtol": tolerance, "atol": tolerance}
        solve = adaptive.AdaptiveSolve("", rhs, z0, **how)
        with torch.no_grad():
            solve.solve()
        accepted.append(len(solve.accepted))

        def step(how=how):
            rhs.zero_grad()
            odeint(rhs, z0, gradient=AnodeRK45(**how), **CASE).sum().backward()

        peaks.append(peak_bytes(step, z0.device) / z0.nbytes)
    assert accepted[1] > accepted[0] + 2
    assert (peaks[1] - peaks[0]) / (accepted[1] - accepted[0]) == pytest.approx(2, abs=0.05)


def test_states_are_freed_with_the_graph():
    rhs, z0 = Tanh(), torch.ones(2, 3, dtype=torch.float64)
    gc.collect()
    gc.disable()
    try:
        z1 = odeint(rhs, z0, gradient="anode-rk45", **CASE)
        z1.sum().backward()
        solve = next(x for x in gc.get_objects() if isinstance(x, adaptive.AdaptiveSolve))
        alive = weakref.ref(solve)
        del solve, z1
        assert alive() is None
    finally:
        gc.enable()


def test_batchnorm_statistics_see_the_forward_pass_alone():
    torch.manual_seed(0)
    rhs = Tricky(dropout=False)
    z1 = odeint(rhs, torch.randn(3, 4, 5, 5), gradient="anode-rk45", **CASE)
    mean = rhs.layers[1].running_mean.clone()
    z1.sum().backward()
    assert torch.equal(rhs.layers[1].running_mean, mean)


@given(
    sources=st.frozensets(st.sampled_from(["python", "numpy", "torch", "counter"]), max_size=2),
    between=st.lists(st.sampled_from(list(test_proof.BETWEEN)), max_size=2, unique=True),
    forward=st.sampled_from(["plain", "plain", "functional_call", "a mode"]),
)
@hypothesis_settings(max_examples=60)
def test_gradient_is_exact_or_an_error_whatever_changes_between_the_passes(**case):
    loose = {"rtol": 1.0, "atol": 1.0}  # so that random numbers end no solve
    expected = test_proof.gradients(Stored(**loose), **case, **CASE)
    try:
        found = test_proof.gradients(AnodeRK45(**loose), **case, **CASE)
    except InexactError:
        is_the_same = case["forward"] == "plain" and case["sources"] <= {"torch"}
        assert not (is_the_same and test_proof.HARMLESS.issuperset(case["between"]))
        return
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parameter", ["rtol=0", "atol=-1", "rtol=nan", "atol=inf"])
def test_tolerances_must_be_positive_numbers(parameter):
    with pytest.raises(ValueError, match="rtol and atol must be positive numbers"):
        odeint(Tanh(), torch.ones(1, 3), gradient=f"anode-rk45:{parameter}", **CASE)


@pytest.mark.parametrize(
    ("rhs", "said"),
    [
        (lambda t, z: z**2, "anode-rk45:.*the step underflows at t = 0.5: choose larger"),
        (lambda t, z: z / torch.where(t > 0.5, 0.0, 1.0), "at t = 0.*: choose larger tolerances"),
    ],
)
def test_solve_that_cannot_go_on_says_where_and_what_to_do(rhs, said):
    z0 = torch.full((2, 3), 2.0, dtype=torch.float64)
    with pytest.raises(ValueError, match=said):
        odeint(rhs, z0, gradient="anode-rk45", **CASE)


def test_solve_of_too_many_evaluations_is_ended(monkeypatch):
    monkeypatch.setattr(adaptive, "MOST_EVALUATIONS", 30)
    z0 = torch.ones(2, 3, dtype=torch.float64)
    odeint(Tanh(), z0, gradient="anode-rk45", **CASE)
    with pytest.raises(ValueError, match="takes more than 30 evaluations.*choose larger toler"):
        odeint(Tanh(), z0, gradient="anode-rk45:rtol=1e-11:atol=1e-11", **CASE)
