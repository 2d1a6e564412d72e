"""What each fault of the continuous adjoint costs."""

import pytest

import plots
from bench import records
from plots import ablation
from plots.recorded import read
from tests.bench.builders import row, run
from tests.plots.test_figures import figures, texts  # noqa: F401

ACCURACY = {"anode": 0.9, "node-grid-frozen": 0.86, "node-frozen": 0.85, "node": 0.5}
WITH_GRID = {**ACCURACY, "node-grid": 0.6}


def write(folder, accuracy, *, seeds=(0, 1), diverged=()):
    """Runs of ResNet-4 whose accuracy is this, and a hundredth more for each seed."""
    names = []
    for gradient, value in accuracy.items():
        for seed in seeds:
            names.append(f"{gradient}-{seed}")
            lost = (gradient, seed) in diverged
            made = run(
                names[-1],
                epochs=[row(1, test_accuracy=value + 0.01 * seed)],
                gradient=gradient,
                seed=seed,
                status="diverged" if lost else "ok",
                reason="nan" if lost else None,
            )
            records.write_run(folder, made)
    return folder / "suite", names


def lost(folder, accuracy, **how):
    """Fault → the points that each seed lost."""
    table = ablation.paired_losses(read(*write(folder, accuracy, **how)))
    return {f: [round(v, 9) for v in t["lost"]] for f, t in table.groupby("faults", sort=False)}


def test_each_fault_costs_the_difference_between_two_rungs(tmp_path):
    found = lost(tmp_path, ACCURACY)
    assert found == {
        "inconsistency": [4, 4],
        "drift": [1, 1],
        "statistics": [35, 35],
        "total": [40, 40],
    }


def test_faults_add_up_to_the_whole_loss(tmp_path):
    found = lost(tmp_path, WITH_GRID)
    parts = [found[fault][0] for fault in ablation.FAULTS]
    assert sum(parts) == pytest.approx(found["total"][0])
    assert found["drift, statistics polluted"] == [10, 10]


def test_faults_of_a_rung_that_was_not_run_are_taken_together(tmp_path):
    accuracy = {g: a for g, a in WITH_GRID.items() if g != "node-grid-frozen"}
    found = lost(tmp_path, accuracy)
    assert found["inconsistency + drift"] == [5, 5]
    assert "drift" not in found


def test_seeds_of_which_one_run_diverged_are_not_compared(tmp_path):
    found = lost(tmp_path, ACCURACY, diverged=[("node", 1)])
    assert found["inconsistency"] == [4, 4]
    assert found["statistics"] == [35]
    assert found["total"] == [40]


@pytest.mark.parametrize("without", ["anode", "node"])
def test_nothing_is_drawn_where_an_end_of_the_ladder_is_missing(tmp_path, without):
    accuracy = {g: a for g, a in WITH_GRID.items() if g != without}
    assert plots.draw(["ablation"], *write(tmp_path, accuracy)) == []


def test_nothing_is_drawn_of_the_three_published_methods(tmp_path):
    accuracy = {"baseline": 0.8, "anode": 0.9, "node": 0.5}
    assert plots.draw(["ablation"], *write(tmp_path, accuracy)) == []


def test_figure_and_table_show_every_fault(tmp_path, figures):  # noqa: F811
    folder, names = write(tmp_path, WITH_GRID)
    plots.draw(["ablation"], folder, names)
    figure = figures["ablation-rk2-nt2"]
    heights = [round(bar.get_height(), 6) for bar in figure.axes[0].patches]
    assert heights == [4, 1, 35, 40]
    for said in (*ablation.FAULTS, "total", "ResNet-4", "RK2, 2 steps", "2 seeds", "real images"):
        assert said in texts(figure)
    table = (folder / "figures" / "ablation.md").read_text()
    assert "| `node-frozen` | `node` | +35.00 (+35.00 … +35.00) | 2 |" in table
    assert "drift, statistics polluted | `node-grid` | `node` | +10.00" in table
