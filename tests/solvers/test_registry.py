"""Names of methods and gradient methods, and objects of the user's own in their place."""

import pytest
import torch

from solvers import GRADIENTS, Tableau, odeint
from solvers.methods import Combination


class Halving:
    """A user's own gradient method."""

    name = "halving"

    def solve(self, rhs, z0, method, n_steps):
        return odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop") / 2


HALVING, NO_SOLVE = Halving(), object()
HEUN = Tableau(
    *("heun", 2, (0.0, 1.0), (Combination((1.0,)),), Combination((1.0, 1.0), 1 / 2), "heun2")
)


@pytest.mark.parametrize(
    ("method", "gradient"), [(HEUN, HALVING), (f"{__name__}:HEUN", f"{__name__}:HALVING")]
)
def test_foreign_objects_are_used_as_they_are_or_by_name(method, gradient):
    z1 = odeint(lambda t, z: -z, torch.ones(1), method=method, n_steps=1, gradient=gradient)
    assert float(z1) == 0.25


@pytest.mark.parametrize(
    ("result", "said"),
    [(torch.ones(3), r"\(2,\), and returned \(3,\)"), (None, "returned NoneType")],
)
def test_gradient_method_that_returns_another_shape_is_refused(result, said):
    class WrongShape:
        name = "wrong-shape"

        def solve(self, rhs, z0, method, n_steps):
            return result

    with pytest.raises(ValueError, match=said):
        odeint(lambda t, z: z, torch.ones(2), method="euler", n_steps=1, gradient=WrongShape())


def test_parameters_stand_after_a_colon():
    assert GRADIENTS.resolve("anode-revolve:m=3").m == 3
    assert GRADIENTS.resolve("anode-revolve").m is None
    tight = GRADIENTS.resolve("node-rk45:rtol=1e-5:atol=0.5")
    assert (tight.rtol, tight.atol) == (1e-5, 0.5)
    assert GRADIENTS.canonical("Node-RK45:rtol=1e-3:atol=5e-1") == "node-rk45:atol=0.5:rtol=0.001"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("anode:m=3", "'anode' has no parameter 'm': it takes none"),
        ("anode-revolve:k=3", "'anode-revolve' has no parameter 'k': it has m"),
        ("anode-revolve:m=x", "'m=x' is no int: write m=NUMBER"),
        ("anode-revolve:m=", "'m=' is no int"),
        ("anode-revolve:m=2.5", "is no int"),
        ("node-rk45:rtol=small", "is no float"),
        ("anode-revolv:m=3", "did you mean 'anode-revolve'"),
        ("anode-revolve:m=2:m=3", "the parameter 'm' twice"),
        ("anode-auto:_planner=3", "has no parameter '_planner': it has budget"),
        ("no_such_package:X", "No module named"),
        ("tests.solvers.test_registry:MISSING", "MISSING"),
        ("tests.solvers.test_registry:NO_SOLVE", "no method solve"),
        ("tests.solvers.test_registry:Halving", "name an instance"),
        (":X", "cannot load"),
    ],
)
def test_wrong_parameter_or_object_says_why(spec, said):
    with pytest.raises(ValueError, match=said):
        GRADIENTS.resolve(spec)


@pytest.mark.parametrize(
    ("gradient", "said"),
    [
        *(
            (f"{name}:m={m}", r"needs 1 ≤ m ≤ Nt, and Nt is 3")
            for name in ("anode-revolve", "symplectic")
            for m in (0, -1, 4)
        ),
        *((f"reversible:coupling={c}", "needs 0 < coupling ≤ 1") for c in ("0", "1.5", "nan")),
        *((f"mixed:dtype={d}", "choose bfloat16 or float16") for d in ("float32", "half")),
        *(
            (f"{family}:{p}", "rtol and atol must be positive numbers")
            for family in ("node-rk45", "anode-rk45")
            for p in ("rtol=0", "atol=-1", "rtol=nan", "atol=inf")
        ),
    ],
)
def test_parameter_out_of_its_range_is_an_error(gradient, said):
    with pytest.raises(ValueError, match=said):
        odeint(lambda t, z: z, torch.ones(1, 3), method="rk2", n_steps=3, gradient=gradient)


@pytest.mark.parametrize("gradient", ["anode-revolve", "anode-revolve:m=1", "symplectic:m=1"])
def test_missing_package_is_named_where_it_is_needed(gradient, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    GRADIENTS.resolve("symplectic").check("rk2", 2)
    with pytest.raises(ValueError, match="needs the package checkpoint-schedules: install it"):
        GRADIENTS.resolve(gradient).check("rk2", 2)
