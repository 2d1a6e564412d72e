"""Figures and tables of test accuracy with each kind of BatchNorm statistics."""

from itertools import product

import numpy as np
import pytest

import plots
from bench import records
from plots.training import statistics_table
from plots.training.recorded import read
from tests.bench.builders import row, run

N_IMAGES = 200
ACCURACY = {"baseline": 150, "node": 120, "anode": 140}
"""Correct test images with the running statistics."""
MORE = {"forward": 5, "batch": 10, "per_evaluation": 15}
"""Further correct test images with other statistics."""


@pytest.fixture
def recorded(tmp_path):
    """Two seeds of Euler with one step, where the baseline stands for anode, and of RK2."""
    random = np.random.default_rng(0)
    runs = [("euler", 1, "baseline"), ("euler", 1, "node"), ("rk2", 2, "node"), ("rk2", 2, "anode")]
    names = []
    for (method, n_steps, gradient), seed in product(runs, (0, 1)):
        count, correct = ACCURACY[gradient] + seed, {}
        for kind, more in (("running", 0), ("batch", 10)):
            images = np.zeros(N_IMAGES, dtype=bool)
            images[random.permutation(N_IMAGES)[: count + more]] = True
            correct[kind] = records.packed(images)
        accuracy = {"test_accuracy": count / N_IMAGES}
        for kind, more in MORE.items():
            accuracy[f"test_accuracy_{kind}"] = (count + more) / N_IMAGES
        names.append(f"{method}-{gradient}-{seed}")
        made = run(
            **{"name": names[-1], "gradient": gradient, "method": method, "n_steps": n_steps},
            **{"seed": seed, "test_images": N_IMAGES, "correct": correct},
            epochs=[row(epoch, **accuracy) for epoch in range(1, 5)],
        )
        records.write_run(tmp_path, made)
    return tmp_path / "suite", names


def test_gaps_pair_runs_of_one_seed_and_scheme(recorded):
    gaps = statistics_table.paired_gaps(read(*recorded))
    found = gaps.set_index(["method", "statistics", "seed"])["gap"]
    for kind in ("running", "batch"):
        for seed in (0, 1):
            assert found["euler", kind, seed] == pytest.approx(100 * 30 / N_IMAGES)
            assert found["rk2", kind, seed] == pytest.approx(100 * 20 / N_IMAGES)
    assert set(gaps[gaps["method"] == "euler"]["exact"]) == {"baseline"}
    assert set(gaps[gaps["method"] == "rk2"]["exact"]) == {"anode"}
    expected = 100 * (gaps["only_exact"] - gaps["only_node"]) / N_IMAGES
    assert gaps["gap"].tolist() == pytest.approx(expected.tolist())


def test_table_has_every_kind_and_the_published_numbers(recorded):
    plots.draw(["statistics_table"], *recorded)
    text = (recorded[0] / "figures" / "statistics.md").read_text()
    assert "| ResNet-4 | RK2, 2 steps | ANODE (checkpointed, exact) | 2 | 70.2 ± 0.4 |" in text
    assert "| 75.2 ± 0.4 | – | 77.3 |" in text
    assert "| ResNet-4 | RK2, 2 steps | running | +10.0 ± 0.0 |" in text


def test_figure_has_a_column_for_each_scheme_and_a_row_for_each_kind(recorded, figures):
    plots.draw(["statistics_curves"], *recorded)
    axes = np.array(figures["statistics-resnet4"].axes).reshape(3, 2)
    assert [axis.get_title() for axis in axes[0]] == [
        "Euler, 1 step (ANODE = baseline)",
        "RK2, 2 steps",
    ]
    for row_, shown in zip(axes, ((0,), (5,), (10, 15)), strict=True):
        means = {round(line.get_ydata()[-1] * N_IMAGES, 6) for line in row_[1].get_lines()}
        for more in shown:
            assert {count + more + 0.5 for count in ACCURACY.values()} <= means


def test_records_without_these_statistics_draw_nothing(tmp_path):
    records.write_run(tmp_path, run("a", epochs=[row(4)]))
    (page,) = plots.draw(["statistics_curves", "statistics_table"], tmp_path / "suite", ["a"])
    assert page.name == "report.html"
