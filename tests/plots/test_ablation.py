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
    assert found["drift (with polluted statistics)"] == [10, 10]


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


@pytest.mark.parametrize(
    ("without", "left"),
    [("anode", {"drift", "statistics"}), ("node", {"inconsistency", "drift"})],
)
def test_without_an_end_of_the_ladder_there_is_no_total(tmp_path, without, left):
    assert lost(tmp_path, {g: a for g, a in ACCURACY.items() if g != without}).keys() == left


def test_network_that_lacks_a_rung_is_drawn_beside_one_that_has_it(tmp_path, figures):  # noqa: F811
    folder, names = write(tmp_path, ACCURACY)
    for gradient in ("anode", "node-frozen", "node"):
        names.append(f"alexnet-{gradient}")
        made = run(names[-1], epochs=[row(1)], gradient=gradient, network="alexnet")
        records.write_run(tmp_path, made)
    plots.draw(["ablation"], folder, names)
    assert "inconsistency + drift" in texts(figures["ablation-rk2-nt2"])


def test_runs_that_are_left_out_are_counted(tmp_path, figures):  # noqa: F811
    folder, names = write(tmp_path, ACCURACY, diverged=[("node", 1)])
    plots.draw(["ablation"], folder, names)
    said = "Left out, since they did not end well: 1 of 8 runs"
    assert said in " ".join(texts(figures["ablation-rk2-nt2"]).split())
    assert said in (folder / "figures" / "ablation.md").read_text()


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
    assert "drift (with polluted statistics) | `node-grid` | `node` | +10.00" in table
