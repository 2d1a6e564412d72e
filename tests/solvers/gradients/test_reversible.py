"""reversible: its own discretisation, undone by algebra."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from solvers import METHODS
from solvers.gradients.reversible import CoupledPair, Reversible
from tests.solvers.right_hand_sides import Tricky
from tests.solvers.test_exactness import observe


class Storing:
    """The forward pass of reversible, with every evaluation stored for backpropagation."""

    name = "reversible, stored"

    def solve(self, rhs, z0, method, n_steps):
        pair = CoupledPair.of(rhs, METHODS.resolve(method), Reversible.coupling, n_steps, z0)
        return pair.solve(z0)[0]


@given(
    seed=st.integers(0, 2**32),
    method=st.sampled_from(list(METHODS)),
    n_steps=st.integers(1, 8),
    norm=st.booleans(),
    dropout=st.booleans(),
    time=st.booleans(),
    activation=st.sampled_from([nn.Tanh, nn.Softplus]),
)
@settings(max_examples=40)
def test_gradient_is_exact_for_its_own_forward_pass(seed, method, n_steps, **layers):
    # In float64; what is undone is rounded, by about 1e-16 a step.
    torch.manual_seed(seed)
    rhs, z0 = Tricky(**layers).double(), torch.randn(3, 4, 5, 5, dtype=torch.float64)
    found, reference = (
        observe(rhs, z0, method=method, n_steps=n_steps, gradient=gradient)
        for gradient in ("reversible", Storing())
    )
    for name, expected in reference.items():
        if name == "z0" or (name.startswith("gradient") and expected is not None):
            assert float((found[name] - expected).norm()) <= 1e-12 * float(expected.norm()), name
        elif expected is not None:  # z1, the random state, and BatchNorm's statistics
            assert torch.equal(found[name], expected), name
