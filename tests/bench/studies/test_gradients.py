"""The suite that measures gradient errors, and what varies in it."""

import pytest
import torch

import models
import run_bench
from bench.data.generated import load
from bench.instruments import lipschitz
from bench.records import GradientRow, read_rows
from bench.studies.gradient_runner import ACTIVATIONS, GradientCase, GradientRunner
from tests.bench.builders import CPU
from tests.solvers.right_hand_sides import Holding

SMALL = ["--suite", "gradients", "--network", "resnet4", "--method", "rk2", "--Nt", "1,2"]


@pytest.fixture(scope="module")
def measure():
    runner = GradientRunner(load(10), CPU, 4)

    def call(method="rk2", n_steps=2, gradient="node", **changes):
        """The rows, that of all parameters first."""
        return runner.measure(GradientCase("resnet4", method, n_steps, gradient, **changes))

    return call


def test_anode_is_exact_and_node_is_not_whatever_the_activation(measure):
    errors = set()
    for activation in ACTIVATIONS:
        assert all(row.error == 0 for row in measure(gradient="anode", activation=activation))
        whole, *_ = measure(activation=activation)
        assert whole.part == "all parameters"
        assert whole.error > 1e-3
        errors.add(whole.error)
    assert len(errors) == len(ACTIVATIONS)


def test_scale_multiplies_the_lipschitz_constant(measure):
    # The first block's input does not depend on the scale, and its f is positively homogeneous.
    one, four = (measure("euler", 1, scale=scale)[0].lipschitz for scale in (1.0, 4.0))
    assert four == pytest.approx(4 * one, rel=1e-6)


def test_lipschitz_constant_of_a_matrix_is_its_norm():
    torch.manual_seed(0)
    rhs = Holding(torch.nn.Linear(3, 3, bias=False).double(), lambda held, z: held(z))
    network = models.ODEBlock(rhs, method="euler", n_steps=2, gradient="anode")
    (found,) = lipschitz.of_blocks(network, torch.randn(5, 3, dtype=torch.float64))
    largest = torch.linalg.matrix_norm(rhs.held.weight, 2).item()
    assert found == pytest.approx(largest, rel=1e-3)


def test_measuring_lipschitz_constants_leaves_no_trace():
    network = models.build("resnet10", method="rk2", n_steps=1, gradient="backprop")
    before = [value.clone() for value in network.state_dict().values()]
    assert len(lipschitz.of_blocks(network, torch.randn(2, 3, 32, 32))) == 2
    assert all(map(torch.equal, before, network.state_dict().values()))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_suite_measures_records_and_draws(tmp_path):
    assert run_bench.main([*SMALL, "--gradient", "anode,node", "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "gradients" / "measurements.csv", GradientRow)
    # 2 Nt, 2 gradients; 2 precisions × 2 kinds of weights, 4 other activations, 5 other scales;
    # whole, block, z0, statistics.
    assert len(rows) == 2 * 2 * (2 * 2 + 4 + 5) * 4
    assert all((r.error == 0) == (r.gradient == "anode") for r in rows)
    drawn = {file.name for file in (tmp_path / "gradients" / "figures").glob("*/*.png")}
    assert drawn == {
        *("gradient_activation.png", "gradient_lipschitz.png"),
        "gradient_statistics-trained-float64.png",
        *(
            f"gradient_order-{weights}-{precision}.png"
            for weights in ("initial", "trained")
            for precision in ("float32", "float64")
        ),
    }


def test_trained_weights_are_the_same_for_every_gradient_method(measure):
    trained = {"precision": "float64", "weights": "trained"}
    node, anode, again = (measure(gradient=g, **trained) for g in ("node", "anode", "node"))
    assert [r.error for r in node] == [r.error for r in again]
    assert node[0].error > 0 == anode[0].error
    assert measure(**{**trained, "weights": "initial"})[0].error != node[0].error
