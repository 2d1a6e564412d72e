"""Captions name what the results that they put side by side do not share."""

from dataclasses import replace

import pytest

import plots
from bench import records
from bench.records import Measurement, MemoryRow
from plots import labels
from tests.bench.builders import row, run

HERE = {
    "device": "cpu",
    "device_name": "a test machine",
    "threads": 2,
    "memory_format": "channels_last",
    "huge_pages": True,
    "python": "3.12.1",
    "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
    "version": "0.1.0",
    "git_revision": "679aee592369",
    "git_dirty": False,
    "sources": {"mine:MINE": "0123456789"},
}
DATA = {"source": "real images", "fingerprint": "0123", "is_generated": False}

DIFFERENT = {
    "threads (2 | 1)": {"threads": 1},
    "memory format (channels_last | contiguous)": {"memory_format": "contiguous"},
    "huge pages (True | False)": {"huge_pages": False},
    "python (3.12.1 | 3.11.7)": {"python": "3.11.7"},
    "torch (2.13.0 | 2.11.0)": {"packages": {"torch": "2.11.0", "numpy": "2.4.6"}},
    "anode-bench (0.1.0 | 0.2.0)": {"version": "0.2.0"},
    "git revision (679aee5 | 679aee5 with changes)": {"git_dirty": True},
    "source of mine:MINE (0123456 | 9876543)": {"sources": {"mine:MINE": "9876543210"}},
    "threads (2 | 1, then 2)": {"earlier_parts": [{"threads": 1}]},
}


def caption(figure):
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def draw(tmp_path, **second):
    """The files drawn from two runs, of which the second differs from the first."""
    first = run("node", epochs=[row(1)], gradient="node", environment=HERE, data=DATA)
    other = {"gradient": "anode", "environment": HERE, "data": DATA, **second}
    for made in (first, run("anode", epochs=[row(1)], **other)):
        records.write_run(tmp_path, made)
    folder = tmp_path / "suite"
    plots.draw(["training", "gradient_error", "accuracy_table"], folder, ["node", "anode"])
    return (folder / "figures" / "accuracy.md").read_text()


RUNS_DIFFER = {
    **{said: {"environment": {**HERE, **more}} for said, more in DIFFERENT.items()},
    "precision (float32 | bfloat16)": {"precision": "bfloat16"},
    "data (real images, fingerprint 0123 | real images, fingerprint 4567)": {
        "data": {**DATA, "fingerprint": "4567"}
    },
}


@pytest.mark.parametrize("said", [*RUNS_DIFFER, None])
def test_condition_that_runs_do_not_share_is_named(tmp_path, figures, said):
    table = draw(tmp_path, **(RUNS_DIFFER[said] if said else {}))
    assert len(figures) == 2
    for shown in (*map(caption, figures.values()), table):
        if said:
            assert f"Not the same in all runs: {said}." in shown
        else:
            assert "Not the same" not in shown


def measured(tmp_path, *environments):
    rows = [
        MemoryRow("resnet4", 1, "euler", n_steps, gradient, 2, "cpu", 4, 8 * n_steps, 1, 2)
        for n_steps in (1, 2, 4)
        for gradient in ("anode", "node")
    ]
    rows += [
        replace(r, network=f"{labels.CHAIN}{blocks}", n_blocks=blocks, peak_bytes=9 * blocks)
        for r in rows
        for blocks in (2, 3)
    ]
    records.write_rows(tmp_path / records.MEASUREMENTS, MemoryRow, rows, environments)
    key = ("network", "n_steps", "gradient")
    names = ("memory_steps", "memory_laws")
    plots.draw_measured(names, tmp_path, MemoryRow, key, {records.key_of(r, key) for r in rows})
    return (tmp_path / "figures" / "laws.md").read_text()


@pytest.mark.parametrize("said", [*DIFFERENT][:3])
def test_condition_that_measurements_on_one_device_do_not_share_is_named(tmp_path, figures, said):
    other = {**HERE, "device": "cuda", "threads": 1}
    assert "Not the same" not in measured(tmp_path, HERE, other) + caption(figures["memory_steps"])
    table = measured(tmp_path, HERE, {**HERE, **DIFFERENT[said]})
    for shown in (caption(figures["memory_steps"]), table):
        assert f"Not the same in all measurements: {said}." in shown


def test_step_costs_that_were_measured_in_different_conditions_are_named(tmp_path, figures):
    for gradient in ("anode", "node"):
        made = run(gradient, epochs=[row(1)], gradient=gradient, environment=HERE)
        records.write_run(tmp_path, made)
    costs = [
        Measurement("resnet4", "rk2", 2, g, 64, "cpu", "float32", quantity, "", 1.0, 1.0, 1.0, 1)
        for g in ("anode", "node")
        for quantity in ("peak_memory", "seconds_per_step")
    ]
    file = tmp_path / "suite" / records.MEASUREMENTS
    records.write_rows(file, Measurement, costs, [HERE, {**HERE, "threads": 1}])
    plots.draw(["cost"], tmp_path / "suite", ["anode", "node"])
    said = caption(figures["cost-rk2-nt2"])
    assert "Not the same in all measurements: threads (2 | 1)." in said
    assert "in all runs" not in said
