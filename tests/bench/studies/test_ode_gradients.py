"""The suite that measures distances from the gradient of the ODE, and shares of the error."""

import pytest
import torch
import torch.nn.functional as F

import run_bench
from bench import data
from bench.records import OdeGradientRow, read_rows
from bench.studies import ode_gradients
from bench.studies.ode_gradients import DEPTH_VARYING, OdeGradientCase, OdeGradientRunner
from tests.bench.builders import CPU


@pytest.fixture(scope="module")
def runner():
    return OdeGradientRunner(data.load(None, 10, generate=True), CPU, 2)


def loss(runner, case, direction, distance):
    """Of a fine solve, with the weights moved along a direction."""
    network = runner._network(case.solved_with("backprop", "rk4", 64))
    with torch.no_grad():
        for parameter, part in zip(network.parameters(), direction, strict=True):
            parameter += distance * part
        return float(F.cross_entropy(network(runner._pixels.double()), runner._labels))


def test_gradient_of_the_ode_agrees_with_central_differences_of_a_fine_solve(runner):
    case = OdeGradientCase(DEPTH_VARYING, "rk2", 1, activation="tanh")
    gradient, _, change = runner.of_ode(case)
    assert change <= 1e-8
    torch.manual_seed(0)
    direction = [
        torch.randn_like(p) for p in runner._network(case.solved_with("node")).parameters()
    ]
    vector = torch.cat([part.flatten() for part in direction])
    h = 1e-8  # so that no ReLU outside f changes its side
    slope = (loss(runner, case, direction, h) - loss(runner, case, direction, -h)) / (2 * h)
    assert float(vector @ gradient) == pytest.approx(slope, rel=1e-5)


def test_distance_from_the_ode_falls_with_the_order_of_the_scheme(runner):
    distances = [
        runner.measure(OdeGradientCase(DEPTH_VARYING, "rk2", n, activation="tanh"))[0]
        for n in (8, 16)
    ]
    for name in ("discrete", "continuous", "difference"):
        coarse, fine = (getattr(row, name) for row in distances)
        assert coarse / fine == pytest.approx(4, rel=0.2), name


@pytest.mark.parametrize("method", ["euler", "rk2", "rk4_38"])
def test_shares_of_the_error_sum_to_one_and_vanish_where_a_cause_is_absent(
    runner, monkeypatch, method
):
    monkeypatch.setattr(ode_gradients, "MOST_STEPS", 8)
    (row,) = runner.measure(OdeGradientCase("resnet10", method, 2))
    assert row.drift + row.reconstruction + row.inconsistency == pytest.approx(1, abs=1e-9)
    assert (abs(row.reconstruction) < 1e-9) == (method == "euler")  # it has no stages
    assert (abs(row.inconsistency) < 1e-9) == (method == "rk4_38")  # it is its own adjoint
    assert row.difference <= row.discrete + row.continuous


def test_suite_measures_records_and_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(ode_gradients, "MOST_STEPS", 8)
    line = "--suite ode-gradients --network resnet4 --method rk2 --Nt 1,2"
    assert run_bench.main([*line.split(), "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "ode-gradients" / "measurements.csv", OdeGradientRow)
    assert len(rows) == 2 * (5 + 1)  # Nt; five activations, and trained weights
    drawn = {file.name for file in (tmp_path / "ode-gradients" / "figures").glob("*/*")}
    kinds = ["initial-relu", "trained-relu", "initial-leaky_relu", "initial-softplus"]
    assert {f"ode_{what}-{kind}.png" for what in ("distances", "shares") for kind in kinds} < drawn
    assert "ode_gradients.md" in drawn
