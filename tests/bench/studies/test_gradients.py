"""The suite that measures gradient errors, and what varies in it."""

import dataclasses

import pytest
import torch
from torch import nn

import models
import run_bench
from bench import data
from bench.instruments import lipschitz
from bench.records import GradientRow, read_rows
from bench.studies.gradient_runner import ACTIVATIONS, GradientCase, GradientRunner
from tests.bench.builders import CPU

SMALL = ["--suite", "gradients", "--network", "resnet4", "--method", "rk2", "--Nt", "1,2,4"]


@pytest.fixture(scope="module")
def runner():
    return GradientRunner(data.load(None, 10, generate=True), CPU, 4)


def whole(rows):
    (row,) = (row for row in rows if row.part == "all parameters")
    return row


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_anode_is_exact_and_node_is_not_whatever_the_activation(runner, activation):
    anode = GradientCase("resnet4", "rk2", 2, "anode", activation=activation)
    node = dataclasses.replace(anode, gradient="node")
    assert all(row.error == 0 for row in runner.measure(anode))
    assert whole(runner.measure(node)).error > 1e-3


def test_activations_give_different_networks(runner):
    errors = {
        activation: whole(
            runner.measure(GradientCase("resnet4", "rk2", 2, "node", activation=activation))
        ).error
        for activation in ACTIVATIONS
    }
    assert len(set(errors.values())) == len(ACTIVATIONS)


def test_order_of_nodes_error_with_a_smooth_activation_is_the_schemes(runner):
    for method, order in (("euler", 1), ("rk2", 2)):
        coarse, fine = (
            whole(
                runner.measure(GradientCase("resnet4", method, n, "node", activation="tanh"))
            ).error
            for n in (32, 64)
        )
        assert coarse / fine == pytest.approx(2**order, rel=0.06)


def test_scale_multiplies_the_lipschitz_constant(runner):
    # The first block's input does not depend on the scale, and its f is positively homogeneous.
    one, four = (
        whole(runner.measure(GradientCase("resnet4", "euler", 1, "node", scale=scale))).lipschitz
        for scale in (1.0, 4.0)
    )
    assert four == pytest.approx(4 * one, rel=1e-6)


def test_lipschitz_constant_of_a_matrix_is_its_norm():
    torch.manual_seed(0)

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = nn.Linear(3, 3, bias=False, dtype=torch.float64)

        def forward(self, t, z):
            return self.matrix(z)

    rhs = Linear()
    network = models.ODEBlock(rhs, method="euler", n_steps=2, gradient="anode")
    (found,) = lipschitz.of_blocks(network, torch.randn(5, 3, dtype=torch.float64))
    largest = torch.linalg.matrix_norm(rhs.matrix.weight, 2).item()
    assert found == pytest.approx(largest, rel=1e-3)


def test_measuring_lipschitz_constants_leaves_no_trace():
    network = models.build("resnet10", method="rk2", n_steps=1, gradient="backprop")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert len(lipschitz.of_blocks(network, torch.randn(2, 3, 32, 32))) == 2
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_suite_measures_records_and_draws(tmp_path):
    arguments = [*SMALL, "--gradient", "anode,node", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    rows = read_rows(tmp_path / "gradients" / "measurements.csv", GradientRow)
    # 3 Nt, 2 gradients; 2 precisions × 2 kinds of weights, 4 other activations, 5 other scales;
    # whole, block, z0, statistics.
    assert len(rows) == 3 * 2 * (2 * 2 + 4 + 5) * 4
    assert all(r.error == 0 for r in rows if r.gradient == "anode")
    assert all(r.error > 0 for r in rows if r.gradient == "node")
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


def test_trained_weights_are_the_same_for_every_gradient_method(runner):

    cases = [GradientCase("resnet4", "rk2", 2, g, "float64", "trained") for g in ("node", "anode")]
    one, other = (runner.measure(case) for case in cases)
    again = runner.measure(cases[0])
    assert [r.error for r in one] == [r.error for r in again]
    assert one[0].error > 0 == other[0].error
    initial = runner.measure(dataclasses.replace(cases[0], weights="initial"))
    assert initial[0].error != one[0].error
