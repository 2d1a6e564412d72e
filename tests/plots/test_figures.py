import dataclasses
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import plots
from bench import records
from bench.errors import UsageError
from bench.records import Measurement
from plots import drawing
from plots.__main__ import main as draw_again
from plots.training import accuracy as accuracy_table
from plots.training.recorded import read
from tests.bench.builders import row, run

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
NETWORKS = ("alexnet", "resnet4")
FIGURES = ("training", "gradient_error", "cost")
ACCURACY = {"baseline": 0.8, "node": 0.5, "anode": 0.82}


@pytest.fixture
def recorded(tmp_path):
    return record(tmp_path)


def record(results):
    """Two networks, three gradient methods, two seeds, four epochs; node's second seed of
    AlexNet diverged."""
    names, measurements = [], []
    for network, gradient in product(NETWORKS, ACCURACY):
        scheme = ("euler", 1) if gradient == "baseline" else ("rk2", 2)
        error = {"baseline": None, "node": 0.25, "anode": 0.0}[gradient]
        blocks = {"gradient_error_blocks": (), "gradient_cosine_blocks": ()}
        if error is not None:
            blocks = {"gradient_error_blocks": (error,), "gradient_cosine_blocks": (1.0,)}
        for seed in (0, 1):
            names.append(f"{network}-{gradient}-{seed}")
            diverged = (network, gradient, seed) == ("alexnet", "node", 1)
            reason = "the training loss became nan in epoch 3"
            epochs = [
                row(
                    epoch,
                    train_loss=100.0**-epoch * (1 + seed),
                    test_accuracy=ACCURACY[gradient] + 0.01 * seed - 0.1 * (4 - epoch),
                    gradient_error=error,
                    **blocks,
                )
                for epoch in range(1, 3 if diverged else 5)
            ]
            made = run(
                **{"name": names[-1], "network": network, "gradient": gradient, "seed": seed},
                **{"method": scheme[0], "n_steps": scheme[1], "epochs": epochs},
                **({"status": "diverged", "reason": reason} if diverged else {}),
            )
            records.write_run(results, made)
        where = (network, *scheme, gradient, 64, "cpu", "float32")
        measurements += [
            Measurement(*where, "peak_memory", "bytes", *[3 * 2**20] * 3, 1),
            Measurement(*where, "seconds_per_step", "seconds", 0.2, 0.1, 0.4, 5),
        ]
    records.write_rows(results / "suite" / records.MEASUREMENTS, Measurement, measurements)
    return results / "suite", names


def texts(figure):
    return " ".join(
        text.get_text() for text in figure.findobj(match=lambda o: hasattr(o, "get_text"))
    )


def test_all_files_are_written(recorded):
    folder, names = recorded
    written = plots.draw(tuple(plots.FIGURES), folder, names)
    assert {file.name for file in written} == {
        *("accuracy.csv", "accuracy.md", "report.html"),
        *(f"{name}-rk2-nt2.{kind}" for name in FIGURES for kind in ("png", "svg")),
    }
    assert all(file.stat().st_size > 200 for file in written)


def test_training_figure_shows_loss_and_accuracy_of_every_network(recorded, figures):
    plots.draw(["training"], *recorded)
    figure = figures["training-rk2-nt2"]
    loss, accuracy = figure.axes[1], figure.axes[3]
    assert loss.get_title() == "ResNet-4"
    assert loss.get_yscale() == "log"
    curves = {tuple(np.round(line.get_ydata().astype(float), 6)) for line in accuracy.get_lines()}
    # Raw curves of both seeds, and their mean.
    for seed_part in (0, 0.01, 0.005):
        assert tuple(np.round(0.5 + seed_part - 0.1 * np.array([3, 2, 1, 0]), 6)) in curves
    assert len(accuracy.collections) == 3  # a band for each gradient method
    assert accuracy.get_xlabel() == "epoch"
    for said in ("Neural ODE", "ANODE", "Baseline", "RK2, 2 steps", "real images", "2 seeds"):
        assert said in texts(figure)
    assert "Neural ODE: 1 diverged" in texts(figure)


def test_gradient_error_figure_has_a_place_for_exactly_zero(recorded, figures):
    plots.draw(["gradient_error"], *recorded)
    (axis, _) = figures["gradient_error-rk2-nt2"].axes
    labels = {
        round(float(t), 12): label.get_text()
        for t, label in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
    }
    values = {line.get_ydata()[0] for line in axis.get_lines() if len(line.get_xdata()) == 4}
    zero = min(values)
    assert 0.25 in {line.get_ydata()[0] for line in axis.get_lines()}
    assert labels[round(float(zero), 12)] == "0"


def test_cost_figure_shows_mebibytes_and_milliseconds(recorded, figures):
    plots.draw(["cost"], *recorded)
    memory, _, time, _ = figures["cost-rk2-nt2"].axes
    assert memory.get_ylabel() == "peak memory (MiB)"
    assert [bar.get_height() for bar in memory.patches] == [3, 3, 3]
    assert time.get_ylabel() == "time per step (ms)"
    assert [round(bar.get_height()) for bar in time.patches] == [200, 200, 200]


def test_table_has_our_numbers_beside_the_published_ones(recorded):
    table = accuracy_table.summarise(read(*recorded)).set_index(["network", "gradient"])
    anode = table.loc[("resnet4", "anode")]
    assert (anode["min"], anode["max"], anode["avg"]) == pytest.approx((82, 83, 82.5))
    assert (anode["published_min"], anode["published_max"]) == (76.92, 77.45)
    assert anode["seeds"] == 2
    node = table.loc[("alexnet", "node")]
    assert (node["seeds"], node["diverged"], node["min"]) == (1, 1, pytest.approx(50))
    markdown = "\n".join(accuracy_table._markdown(table.reset_index(), read(*recorded)))
    assert "| 82.00 / 83.00 | 82.50 | 2 | 76.92 / 77.45 | 77.30 |" in markdown
    assert "1 (1 diverged)" in markdown


@pytest.mark.parametrize(
    "facts", [{"is_generated": True}, {"is_generated": False, "is_cifar": False}]
)
def test_data_that_is_not_cifar_is_named_and_not_put_beside_published_numbers(
    tmp_path, figures, facts
):
    data = {"source": "other images", "fingerprint": "1", **facts}
    last = row(4, test_accuracy_batch=0.5)
    records.write_run(tmp_path, run("a", gradient="anode", epochs=[last], data=data))
    drawn = ["training", "gradient_error", "accuracy_table", "statistics_table"]
    plots.draw(drawn, tmp_path / "suite", ["a"])
    assert len(figures) == 2
    assert all("other images" in texts(figure) for figure in figures.values())
    tables = [*(tmp_path / "suite").rglob("*.md")]
    assert len(tables) == 2
    assert not any("ublished" in file.read_text() for file in tables)


def test_measurements_of_other_runs_and_precisions_are_not_drawn(recorded, figures):
    folder, names = recorded
    file = folder / records.MEASUREMENTS
    rows = records.read_rows(file, Measurement)
    others = [dataclasses.replace(row, precision="bfloat16", value=1) for row in rows]
    records.write_rows(file, Measurement, [*others, *rows])
    plots.draw(["cost"], folder, [name for name in names if "-anode-" in name])
    memory = figures["cost-rk2-nt2"].axes[0]
    assert [bar.get_height() for bar in memory.patches] == [3]


def test_figures_that_cannot_be_drawn_or_written_are_one_line(recorded, tmp_path, capsys):
    folder, names = recorded
    with pytest.raises(UsageError, match="none of the runs is recorded"):
        plots.draw(["training"], folder, ["another"])
    (folder / "figures").write_text("a file")
    with pytest.raises(UsageError, match=r"cannot write .*figures .*--plots-only"):
        plots.draw(["training"], folder, names)
    (tmp_path / "empty").mkdir()
    assert draw_again([str(tmp_path / "empty")]) == 2
    assert "has no recorded runs and no measurements.csv" in capsys.readouterr().err


def test_runs_without_any_epoch_can_be_drawn(tmp_path):
    records.write_run(tmp_path, run("a", status="diverged", reason="nan"))
    assert plots.draw(tuple(plots.FIGURES), tmp_path / "suite", ["a"])


def test_small_print_names_all_devices_the_precision_and_how_many_seeds_there_are(tmp_path):
    for gradient, seed, device in [("node", 0, "one"), ("node", 1, "two"), ("anode", 0, "one")]:
        where = {"device": "cpu", "device_name": device}
        made = {"gradient": gradient, "seed": seed, "precision": "bfloat16", "environment": where}
        records.write_run(tmp_path, run(f"{gradient}-{seed}", epochs=[row(1)], **made))
    said = read(tmp_path / "suite", ["node-0", "node-1", "anode-0"]).protocol()
    assert "1 to 2 seeds, bfloat16, on one and two." in said
    assert "1 seed, bfloat16, on one." in read(tmp_path / "suite", ["node-0", "anode-0"]).protocol()


def test_run_of_one_epoch_is_drawn(tmp_path, figures):
    records.write_run(tmp_path, run("a", epochs=[row(1)], gradient="node"))
    plots.draw(["training", "gradient_error"], tmp_path / "suite", ["a"])
    for axis in (axis for figure in figures.values() for axis in figure.axes):
        assert {line.get_marker() for line in axis.get_lines() if len(line.get_xdata()) == 1} == {
            "X"
        }


def test_figures_of_other_runs_leave_those_of_the_whole_suite(recorded):
    folder, names = recorded
    whole = plots.draw(["accuracy_table"], folder, names, names)
    before = [file.read_bytes() for file in whole]
    chosen = [name for name in names if name.startswith("resnet4-anode")]
    (csv, text, page) = plots.draw(["accuracy_table"], folder, chosen, names)
    assert page.parent == csv.parent
    assert csv.parent.parent == folder / "figures"
    assert csv.parent.name.startswith("resnet4-rk2-2-anode-")
    assert [file.read_bytes() for file in whole] == before
    assert plots.draw(["accuracy_table"], folder, chosen, names) == [csv, text, page]
    (other, *_) = plots.draw(["accuracy_table"], folder, chosen[:1], names)
    assert other != csv
    chosen = [name for name in names if name.startswith("resnet4")]
    (csv, *_) = plots.draw(["accuracy_table"], folder, chosen, names)
    assert csv.parent.name.startswith("resnet4-rk2-2-baseline-node-anode-")  # not the baseline's


@pytest.mark.parametrize(
    "folder", [f for f in sorted(REFERENCE.iterdir()) if [*f.glob("*/run.json"), *f.glob("*.csv")]]
)
def test_committed_figures_are_drawn_again_from_their_records(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "save", lambda figure, to, name: [to / f"{name}.png"])
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)
    kept = tmp_path / folder.name
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("figures"))
    drawn = plots.draw_folder(kept)
    committed = [f for f in (folder / "figures").iterdir() if f.suffix != ".svg"]
    assert {f.name for f in committed} <= {f.name for f in drawn}
    for file in drawn:
        if file.suffix in (".md", ".csv"):
            assert (folder / "figures" / file.name).read_text() == file.read_text(), file.name
