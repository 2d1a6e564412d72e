"""The suite that measures gradients in low precision."""

import pytest
import torch

import run_bench
from bench import data
from bench.context import Workload
from bench.instruments import gradient_error
from bench.records import LowPrecisionRow, read_rows
from bench.studies import low_precision
from bench.studies.low_precision import LowPrecisionCase, LowPrecisionRunner, LowPrecisionStudy
from tests.bench.builders import CPU


@pytest.fixture(scope="module")
def runner():
    dataset = data.load(None, 10, generate=True)
    return LowPrecisionRunner(Workload.of_steps("low-precision", dataset, CPU, 2), repeats=1)


def case(gradient, precision):
    return LowPrecisionCase("resnet4", "rk2", 2, gradient, precision, 2, 0)


def test_errors_grow_with_the_unit_of_rounding_and_memory_falls(runner):
    (single,), (half,) = (
        runner.measure(case("backprop", precision)) for precision in ("float32", "bfloat16")
    )
    assert 0 < single.error < 0.1 * half.error
    assert half.peak_bytes < single.peak_bytes


def test_only_an_inexact_method_is_closer_to_itself_in_float64_than_to_backprop(runner):
    (exact,), (node,) = (runner.measure(case(name, "bfloat16")) for name in ("anode", "node"))
    assert exact.rounding == pytest.approx(exact.error, rel=1e-6)
    assert node.rounding < 0.9 * node.error


def test_mixed_lowers_the_right_hand_side_alone(runner):
    (mixed,), (whole,), (single,) = (
        runner.measure(case(*which))
        for which in (("mixed", "float32"), ("backprop", "bfloat16"), ("backprop", "float32"))
    )
    assert single.error < mixed.error < 2 * whole.error


class Small(torch.nn.Module):
    """Logits whose gradient is below float16's smallest number."""

    def __init__(self, dtype):
        super().__init__()
        self.weight, self.dtype = torch.nn.Parameter(torch.ones(3)), dtype

    def forward(self, images):
        return (1e-4 * (1e-4 * (self.weight * images).to(self.dtype))).float()


@pytest.mark.parametrize("first", [low_precision.FIRST_SCALE, 2.0**40])
def test_scaled_loss_saves_gradients_that_float16_cannot_hold(monkeypatch, first):
    monkeypatch.setattr(low_precision, "FIRST_SCALE", first)
    batch = torch.ones(2, 3), torch.tensor([0, 1])
    (expected,) = gradient_error.observe(Small(torch.float32), *batch).parameters
    (unscaled,) = gradient_error.observe(Small(torch.float16), *batch).parameters
    (scaled,) = low_precision._scaled(Small(torch.float16), *batch).parameters
    assert not unscaled.any()
    torch.testing.assert_close(scaled, expected, rtol=1e-2, atol=0)


def test_what_cannot_be_measured_is_a_row_with_its_reason(runner, monkeypatch):
    def refuse(*given):
        raise RuntimeError("\"convolution\" not implemented for 'Half'\nat a line")

    monkeypatch.setattr(runner, "_measured", refuse)
    (row,) = runner.measure(case("backprop", "float16"))
    assert row.reason == "\"convolution\" not implemented for 'Half'"
    assert row.error is None
    study = LowPrecisionStudy("low-precision", "")
    assert study.remark(case("backprop", "float16"), row).endswith(row.reason)


def test_tf32_is_measured_on_cuda_alone(runner):
    assert runner.measure(case("backprop", "tf32")) == []


def test_suite_measures_records_and_draws(tmp_path):
    line = "--suite low-precision --network resnet4 --gradient backprop,mixed --batch_size 2"
    assert run_bench.main([*line.split(), "--seeds", "1", "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "low-precision" / "measurements.csv", LowPrecisionRow)
    assert len(rows) == 2 * 4
    assert {row.seed for row in rows} == {1}
    drawn = {file.name for file in (tmp_path / "low-precision" / "figures").glob("*/*")}
    assert {"low_precision-rk2-nt2-seed1.png", "low_precision.md"} < drawn
