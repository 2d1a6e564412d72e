"""A right-hand side may keep what it computed in one evaluation for the next."""

import re

import pytest
import torch
from torch import nn

from solvers import GRADIENTS, InexactError, odeint
from tests.solvers.test_exactness import RUN_AGAIN

COMPUTED = {
    "scaled weight": lambda rhs, z: 2 * rhs.weight,
    "squared weight": lambda rhs, z: rhs.weight**2,
    "function of the state": lambda rhs, z: (rhs.weight * z).mean(0),
    "constant": lambda rhs, z: torch.full_like(z[0], 0.3),
    "noise": lambda rhs, z: torch.randn_like(z[0]),
}


class Caching(nn.Module):
    """f = tanh(z · cached), where cached is computed in the first evaluation only."""

    def __init__(self, place, computed):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64))
        self.attribute, self.dict, self.list = None, {}, []
        self.place, self.compute = place, COMPUTED[computed]

    def forward(self, t, z):
        if self.place == "attribute":
            if self.attribute is None:
                self.attribute = self.compute(self, z)
            cached = self.attribute
        elif self.place == "dict":
            if "cached" not in self.dict:
                self.dict["cached"] = self.compute(self, z)
            cached = self.dict["cached"]
        else:
            if not self.list:
                self.list.append(self.compute(self, z))
            cached = self.list[0]
        return torch.tanh(z * cached)


def gradients(gradient, place, computed, solves):
    """In z0 and the weight, of two passes with a new cache each; anode-auto plans the second."""
    torch.manual_seed(0)
    found, rhs = [], Caching(place, computed)
    for _ in range(2):
        rhs.attribute, rhs.dict, rhs.list = None, {}, []
        rhs.weight.grad = None
        z0 = z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
        for _ in range(solves):
            if gradient == "reversible, stored":
                z = GRADIENTS["reversible"].solve_storing(rhs, z, "rk2", 2)
            else:
                z = odeint(rhs, z, method="rk2", n_steps=2, gradient=gradient)
        z.square().sum().backward()
        found += [z0.grad, torch.zeros(3) if rhs.weight.grad is None else rhs.weight.grad]
    return found


@pytest.mark.parametrize("solves", [1, 2])
@pytest.mark.parametrize("computed", COMPUTED)
@pytest.mark.parametrize("place", ["attribute", "dict", "list"])
@pytest.mark.parametrize("gradient", RUN_AGAIN)
def test_gradient_with_a_cache_is_backprops_or_an_error(gradient, place, computed, solves):
    reference = "reversible, stored" if gradient == "reversible" else "backprop"
    expected = gradients(reference, place, computed, solves)
    try:
        found = gradients(gradient, place, computed, solves)
    except InexactError:
        assert computed == "function of the state"
    except RuntimeError as error:
        second = re.search("backward through the graph a second time", str(error))
        assert second
        assert computed in ("scaled weight", "squared weight")
    else:
        assert computed != "function of the state" or gradient == "anode-auto"
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", ["attribute", "dict"])
@pytest.mark.parametrize("computed", ["scaled weight", "squared weight", "constant", "noise"])
def test_anode_has_the_gradient_of_a_cached_value(place, computed):
    expected = gradients("backprop", place, computed, 1)
    torch.testing.assert_close(gradients("anode", place, computed, 1), expected)


@pytest.mark.parametrize("gradient", ["anode", "anode-steps", "anode-revolve"])
def test_loss_of_a_kept_value_that_depends_on_the_state_is_an_error(gradient):
    rhs = Caching("attribute", "function of the state")
    z0 = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    odeint(rhs, z0, method="euler", n_steps=1, gradient=gradient)
    with pytest.raises(InexactError, match="depends on a tensor that the right-hand side computed"):
        rhs.attribute.sum().backward()
