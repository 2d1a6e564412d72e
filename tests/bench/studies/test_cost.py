"""The suite that measures costs: what is compared with what. Times themselves are not tested."""

import dataclasses

import pandas as pd
import pytest

import run_bench
from bench.records import CostRow, read_rows
from bench.studies.cost.study import SLOWER, CostComparison
from bench.studies.regression import compare
from plots.cost import table as cost_table

LINE = "--suite cost --network resnet4 --method euler --Nt 1 --batch_size 2"
ORIGINAL = "bench.peers.original:ORIGINAL"


def test_suite_measures_records_and_draws(tmp_path):
    line = f"{LINE} --gradient anode-auto,node,{ORIGINAL}"
    assert run_bench.main([*line.split(), "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "cost" / "measurements.csv", CostRow)
    found = {(row.gradient, row.memory_format, row.phase) for row in rows}
    assert found == {
        (gradient, layout, phase)
        for gradient in ("backprop", "anode-auto", "node", ORIGINAL)
        for layout in ("channels_last", "contiguous")
        for phase in ("forward", "backward", "optimizer", "step")
    }
    assert len(rows) == len(found)
    for row in rows:
        if row.gradient == "backprop" and row.phase == "step":
            assert row.ratio == row.ratio_low == row.ratio_high == 1
        if row.gradient == "anode-auto":
            assert (row.nfe_forward, row.nfe_backward, row.gradient_error) == (1, 0, 0)
    drawn = {file.name for file in (tmp_path / "cost" / "figures").iterdir()}
    assert drawn == {
        *("cost_memory-euler-nt1.png", "cost_memory-euler-nt1.svg", "cost.md", "bars.csv")
    }


def row(**changes):
    values = {
        **{"network": "resnet4", "method": "rk2", "n_steps": 2, "gradient": "anode"},
        **{"batch_size": 64, "memory_format": "channels_last", "precision": "float32"},
        **{"execution": "eager", "device": "cpu", "phase": "step"},
        **{"seconds": 0.13, "low": 0.12, "high": 0.14},
        **{"ratio": 1.3, "ratio_low": 1.2, "ratio_high": 1.4, "repeats": 5},
        **{"peak_bytes": 100, "nfe_forward": 4, "nfe_backward": 4, "gradient_error": 0.0},
    }
    return CostRow(**{**values, **changes})


@pytest.mark.parametrize(
    ("measured", "is_right"),
    [
        (row(), True),
        (row(seconds=100.0, low=1.0, high=1000.0), True),
        (row(ratio=1.3 * (1 + 0.9 * SLOWER)), True),
        (row(ratio=1.3 * (1 + 1.1 * SLOWER)), False),
        (row(ratio=1.3 * (1 - 1.1 * SLOWER)), False),
        (row(batch_size=32), False),
    ],
)
def test_check_compares_ratios_and_never_times(measured, is_right):
    (finding,) = compare(CostComparison(), [measured], [row()])
    assert (finding.problem is None) == is_right


def judged(rows):
    table = pd.DataFrame([dataclasses.asdict(row) for row in rows])
    return table, {bar["what"]: (bar["measured"], bar["holds"]) for bar in cost_table.judge(table)}


def test_bars_are_judged_by_the_measured_ratios():
    _, found = judged(
        [
            row(gradient="backprop", seconds=0.1, peak_bytes=300),
            row(gradient="anode", ratio=1.33, peak_bytes=200),
            row(gradient="anode-auto", seconds=0.104, ratio=1.04, peak_bytes=201),
            row(gradient="node", seconds=0.15, ratio=1.5),
            row(gradient=ORIGINAL, seconds=0.1, memory_format="contiguous"),
            row(gradient="bench.peers.torch_checkpoint:BLOCK", seconds=0.2, peak_bytes=999),
        ]
    )
    assert found["anode-auto / backprop (channels-last)"] == (pytest.approx(1.04), False)
    memory = found["peak memory of anode-auto / anode (channels-last)"]
    assert memory == (pytest.approx(201 / 200), False)
    node = found["Neural ODE (continuous adjoint) / anode-auto (channels-last)"]
    assert node == (pytest.approx(1.5 / 1.04), False)
    # A peer that needs more memory, or was timed in another memory format, is not compared.
    assert not any("torch.utils.checkpoint" in what or "published" in what for what in found)


@pytest.mark.parametrize(
    ("forward", "backward", "bar", "holds"), [(1, 2, 4 / 3, False), (2, 3, 1.4, True)]
)
def test_anode_is_judged_by_the_networks_own_forward_and_backward_times(
    forward, backward, bar, holds, tmp_path
):
    table, found = judged(
        [
            row(gradient="backprop", ratio=1.0),
            row(gradient="backprop", phase="forward", seconds=forward / 100),
            row(gradient="backprop", phase="backward", seconds=backward / 100),
            row(gradient="anode", ratio=1.36),
        ]
    )
    assert found["anode / backprop (channels-last)"] == (1.36, holds)
    cost_table.draw(table, tmp_path)
    assert f"| {backward / forward:.2f} | {bar:.2f} |" in (tmp_path / "cost.md").read_text()
