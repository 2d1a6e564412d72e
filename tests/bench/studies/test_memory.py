"""The suite that measures peak memory, and the laws that are fitted to it."""

import shutil

import pandas as pd
import pytest

import run_bench
from bench.data.generated import load
from bench.experiment import Experiment
from bench.records import MemoryRow, read_rows
from bench.studies.gradients import ALL_GRADIENTS
from bench.studies.memory import CHAIN
from bench.suites import SUITES
from plots.memory import laws
from tests.bench.builders import CPU

SUITE = SUITES["memory"]


@pytest.fixture(scope="module")
def measure():
    runner = SUITE.runner(load(10), CPU)

    def call(gradient, *, network="resnet4", n_steps=4):
        (row,) = runner.measure(Experiment(network, gradient, "euler", n_steps, batch_size=2))
        return row

    return call


def test_row_states_memory_and_evaluations_of_a_step(measure):
    row = measure("anode", network=f"{CHAIN}2")
    assert row.n_blocks == 2
    assert row.state_bytes == 2 * 16 * 32 * 32 * 4
    assert (row.nfe_forward, row.nfe_backward) == (8, 8)
    assert row.peak_bytes > 20 * row.state_bytes


def test_revolve_needs_one_state_more_for_each_checkpoint_more(measure):
    two, three = (measure(f"anode-revolve:m={m}", n_steps=12) for m in (2, 3))
    # BatchNorm's statistics are kept with each state, a few hundred bytes.
    assert three.peak_bytes - two.peak_bytes == pytest.approx(two.state_bytes, rel=0.05)


LAWS = {
    "backprop": "O(L·Nt)",
    "anode": "O(L + Nt)",
    "anode-steps": "O(L·Nt)",
    "reversible": "O(L)",
    "node": "O(L)",
    "node-rk45": "O(L)",
}


def test_laws_are_those_of_the_papers(measure):
    rows = [
        measure(gradient, network=network, n_steps=n_steps)
        for gradient in LAWS
        for network in ("resnet4", f"{CHAIN}2", f"{CHAIN}3")
        for n_steps in (2, 4, 8)
    ]
    table = laws.fit(pd.DataFrame(rows)).set_index("gradient")
    assert table["law"].to_dict() == LAWS
    assert (table["misfit"] < 0.02).all()
    # ANODE's coefficients: one state a block, and what backprop stores in a step, a step.
    assert table.loc["anode", "L"] == pytest.approx(1, abs=0.05)
    assert table.loc["anode", "Nt"] == pytest.approx(table.loc["backprop", "L·Nt"], rel=0.01)


def test_law_of_made_up_rows():
    def row(blocks, steps):
        peak = int(1000 * (3 + 2 * blocks + 5 * steps))
        scheme = ("rk2", steps, "anode", 1, "cpu", 1000, peak, 0, 0)
        return MemoryRow(f"{CHAIN}{blocks}" if blocks > 1 else "resnet4", blocks, *scheme)

    rows = pd.DataFrame([row(blocks, steps) for blocks in (1, 2, 5) for steps in (2, 3, 9)])
    (found,) = laws.fit(rows).to_dict("records")
    assert [found[term] for term in laws.TERMS] == pytest.approx([3, 2, 5, 0], abs=1e-9)
    assert found["law"] == "O(L + Nt)"


def test_suite_measures_records_and_draws(tmp_path, monkeypatch):
    monkeypatch.setitem(SUITES, "memory", SUITE.replaced(revolved_steps=6))
    line = f"--suite memory --network resnet4,{CHAIN}2 --Nt 1,2,4 --method euler --batch_size 1"
    assert run_bench.main([*line.split(), "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "memory" / "measurements.csv", MemoryRow)
    # Every gradient method; then Nt = 6 with m = 1 … 6 and beside it every method again.
    assert len(rows) == 2 * 3 * len(ALL_GRADIENTS) + 6 + len(ALL_GRADIENTS)
    figures = tmp_path / "memory" / "figures"
    drawn = {"memory_steps.png", "memory_blocks.png", "memory_tradeoff.png", "laws.md"}
    assert drawn < {file.name for file in figures.glob("*/*")}
    one = line.replace(f",{CHAIN}2", "").replace("1,2,4", "1,2")
    shutil.rmtree(figures)
    more = ["--gradient", "anode,backprop", "--plots-only", "--out", str(tmp_path)]
    assert run_bench.main([*one.split(), *more]) == 0  # without chains there are no laws
    drawn = {file.name for file in figures.glob("*/*")}
    assert drawn == {"memory_steps.png", "memory_steps.svg", "report.html"}
