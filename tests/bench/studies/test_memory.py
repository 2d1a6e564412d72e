"""The suite that measures peak memory, and the laws that are fitted to it."""

import pandas as pd
import pytest

import run_bench
from bench import data
from bench.experiment import Experiment
from bench.records import MemoryRow, read_rows
from bench.studies.gradients import ALL_GRADIENTS
from bench.studies.memory import CHAIN
from bench.suites import SUITES
from plots.memory import laws
from solvers.binomial import recomputed_steps
from tests.bench.builders import CPU

SUITE = SUITES["memory"]


@pytest.fixture(scope="module")
def runner():
    return SUITE.runner(data.load(None, 10, generate=True), CPU)


def measure(runner, gradient, *, network="resnet4", n_steps=4):
    case = Experiment(network, gradient, "euler", n_steps, batch_size=2)
    (row,) = runner.measure(case)
    return row


def test_a_row_says_what_a_step_needs(runner):
    row = measure(runner, "anode", network=f"{CHAIN}2")
    assert row.n_blocks == 2
    assert row.state_bytes == 2 * 16 * 32 * 32 * 4
    assert (row.nfe_forward, row.nfe_backward) == (8, 8)
    assert row.peak_bytes > 20 * row.state_bytes


@pytest.mark.parametrize("m", [1, 2, 3, 7])
def test_revolve_runs_as_many_steps_again_as_the_binomial_formula_says(runner, m):
    row = measure(runner, f"anode-revolve:m={m}", n_steps=7)
    assert row.nfe_backward == recomputed_steps(7, m)


def test_revolve_needs_one_state_more_for_each_checkpoint_more(runner):
    two, three = (measure(runner, f"anode-revolve:m={m}", n_steps=12).peak_bytes for m in (2, 3))
    state = measure(runner, "anode").state_bytes
    # BatchNorm's statistics are kept with each state, a few hundred bytes.
    assert three - two == pytest.approx(state, rel=0.05)


LAWS = {
    "backprop": "O(L·Nt)",
    "anode": "O(L + Nt)",
    "anode-steps": "O(L·Nt)",
    "reversible": "O(L)",
    "node": "O(L)",
    "node-rk45": "O(L)",
}


def test_laws_are_those_of_the_papers(runner):
    rows = [
        measure(runner, gradient, network=network, n_steps=n_steps)
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
    coefficients = [found[term] for term in laws.TERMS]
    assert coefficients == pytest.approx([3, 2, 5, 0], abs=1e-9)
    assert found["law"] == "O(L + Nt)"


def test_suite_measures_records_and_draws(tmp_path):
    line = f"--suite memory --network resnet4,{CHAIN}2 --Nt 1,2,4 --method euler --batch_size 1"
    assert run_bench.main([*line.split(), "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "memory" / "measurements.csv", MemoryRow)
    # Every gradient method; then Nt = 32 with m = 1 … 32 and beside it every method again.
    assert len(rows) == 2 * 3 * len(ALL_GRADIENTS) + 32 + len(ALL_GRADIENTS)
    drawn = {file.name for file in (tmp_path / "memory" / "figures").glob("*/*")}
    assert {"memory_steps.png", "memory_blocks.png", "memory_tradeoff.png", "laws.md"} < drawn
    assert run_bench.main([*line.split(), "--plots-only", "--out", str(tmp_path)]) == 0


def test_suite_without_chains_draws_what_it_can(tmp_path):
    line = "--suite memory --network resnet4 --Nt 1,2 --method euler --gradient anode,backprop"
    assert run_bench.main([*line.split(), "--batch_size", "1", "--out", str(tmp_path)]) == 0
    drawn = {file.name for file in (tmp_path / "memory" / "figures").glob("*/*")}
    assert drawn == {"memory_steps.png", "memory_steps.svg", "report.html"}


def test_nothing_recorded_is_said_in_one_line(tmp_path, capsys):
    assert run_bench.main(["--suite", "memory", "--plots-only", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
