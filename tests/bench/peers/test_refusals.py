"""What a peer cannot do it refuses, in a line that says why. Needs none of the packages."""

import sys

import pytest
from torch import nn

from bench.peers import with_diffrax, with_torchdyn, with_torchode
from bench.peers.butcher import butcher
from bench.peers.jax_layers import translate
from models.layers import Autonomous
from solvers import METHODS, Tableau, check
from solvers.methods import Combination
from tests.solvers.right_hand_sides import Tricky

HEUN = Tableau(
    *("heun", 2, (0.0, 1.0), (Combination((1.0,)),)), Combination((1.0, 1.0), 1 / 2), None
)


@pytest.mark.parametrize(
    ("peer", "package"),
    [
        (with_torchode.BACKPROP, "torchode"),
        (with_torchode.ADJOINT, "torchode"),
        (with_torchdyn.BACKPROP, "torchdyn"),
        (with_torchdyn.ADJOINT, "torchdyn"),
        (with_diffrax.RECURSIVE, "diffrax"),
        (with_diffrax.BACKSOLVE, "diffrax"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_missing_package_is_named_with_the_command_that_installs_it(peer, package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"^{package}\S* is not installed: pip install -e \.\[pe"):
        check("rk2", 2, peer)


def test_torchdyn_refuses_a_scheme_that_it_has_no_place_for():
    pytest.importorskip("torchdyn")
    with pytest.raises(ValueError, match="torchdyn has no scheme 'heun'"):
        check(HEUN, 2, with_torchdyn.BACKPROP)


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Softplus(beta=2),
    ],
    ids=str,
)
def test_layers_without_translation_are_refused_by_name(layer):
    with pytest.raises(ValueError, match=type(layer).__name__):
        translate(Autonomous(nn.ReLU(), layer))


def test_module_with_a_forward_pass_of_its_own_is_refused():
    with pytest.raises(ValueError, match="Tricky"):
        translate(Tricky())


def test_translation_hands_over_every_parameter_of_the_right_hand_side():
    rhs = Autonomous(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.Identity())
    _, tensors = translate(rhs)
    assert [id(t) for t in tensors] == [id(p) for p in rhs.parameters()]
    _, frozen = translate(rhs.eval())
    assert frozen[-2] is rhs.layers[1].running_mean


@pytest.mark.parametrize("method", METHODS)
def test_butcher_has_the_same_coefficients(method):
    c, a, b = butcher(METHODS[method])
    assert sum(b) == pytest.approx(1)
    assert [sum(row) for row in a] == pytest.approx(list(c))
    # One step on dz/dt = z is the scheme's stability polynomial, exp up to its order.
    slopes = []
    for row in a:
        slopes.append(1 + sum(weight * slope for weight, slope in zip(row, slopes, strict=True)))
    step = 1 + sum(weight * slope for weight, slope in zip(b, slopes, strict=True))
    series = [1, 1, 1 / 2, 1 / 6, 1 / 24][: METHODS[method].order + 1]
    assert step == pytest.approx(sum(series))
