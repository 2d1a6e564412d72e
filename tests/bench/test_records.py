import json
import os

import pandas as pd
import pytest

from bench import files, records
from bench.errors import UsageError
from bench.records import Measurement, load, load_measurements, load_runs, write_run
from tests.bench.builders import row, run

SUMMARY = {
    "final_gradient_error": float("inf"),
    "final_test_accuracy": 0.5,
    "best_test_accuracy": 0.5,
}


def test_run_is_read_as_it_was_written(tmp_path):
    write_run(tmp_path, run("a", epochs=[row(1, train_loss=1 / 3), row(2)]))
    frame = load(tmp_path / "suite")
    assert frame["epoch"].tolist() == [1, 2]
    assert frame["train_loss"].tolist() == [1 / 3, 1.0]
    assert frame["gradient_error_block2"].tolist() == [0.125, 0.125]
    first = frame.iloc[0]
    assert (first["suite"], first["run"], first["network"], first["seed"]) == (
        "suite",
        "a",
        "resnet4",
        0,
    )
    assert (first["data"], first["fingerprint"]) == ("real images", "0123")
    assert not frame.columns.duplicated().any()


def test_load_takes_a_run_a_suite_or_all_results(tmp_path):
    write_run(tmp_path, run("a", epochs=[row(1)]))
    write_run(tmp_path, run("b", suite="other", epochs=[row(1), row(2)]))
    assert len(load(tmp_path)) == 3
    assert len(load(tmp_path / "other")) == 2
    assert len(load(tmp_path / "other" / "b")) == 2
    assert len(load(str(tmp_path))) == 3


def test_runs_with_different_numbers_of_blocks_are_read_together(tmp_path):
    write_run(tmp_path, run("a", epochs=[row(1)]))
    one = {"gradient_error_blocks": (0.1,), "gradient_cosine_blocks": (1.0,)}
    write_run(tmp_path, run("b", epochs=[row(1, **one)]))
    frame = load(tmp_path).set_index("run")
    assert pd.isna(frame.loc["b", "gradient_error_block2"])


def test_run_without_an_epoch_is_a_run_without_rows(tmp_path):
    write_run(tmp_path, run("a", status="diverged", reason="the training loss became nan"))
    assert len(load(tmp_path)) == 0
    assert "run" in load(tmp_path)
    assert load_runs(tmp_path)["reason"].tolist() == ["the training loss became nan"]
    write_run(tmp_path, run("b", epochs=[row(1)]))
    assert load(tmp_path)["run"].tolist() == ["b"]


def test_infinities_are_kept_where_they_can_be(tmp_path):
    infinite = row(1, gradient_error=float("inf"), test_loss=float("inf"))
    write_run(tmp_path, run(epochs=[infinite], summary=SUMMARY))
    assert load(tmp_path)["gradient_error"].tolist() == [float("inf")]
    assert load_runs(tmp_path)["final_gradient_error"].isna().all()


@pytest.mark.parametrize("broken_call", ["mkstemp", "fsync", "replace"])
@pytest.mark.parametrize("broken_write", [1, 2])
def test_interrupted_write_leaves_no_half_record(tmp_path, monkeypatch, broken_call, broken_write):
    calls = 0
    module = files.tempfile if broken_call == "mkstemp" else os
    original = getattr(module, broken_call)

    def fail(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == broken_write:
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    write_run(tmp_path, run("a", epochs=[row(1)]))
    monkeypatch.setattr(module, broken_call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_run(tmp_path, run("b", epochs=[row(1)]))
    monkeypatch.undo()
    assert records.read_run(tmp_path / "suite" / "b") is None
    assert load(tmp_path)["run"].tolist() == ["a"]
    assert not list(tmp_path.rglob(".*"))
    write_run(tmp_path, run("b", epochs=[row(1)]))
    assert len(load(tmp_path)) == 2


def test_rewriting_a_run_that_breaks_off_does_not_pass_for_the_old_one(tmp_path, monkeypatch):
    write_run(tmp_path, run("a", epochs=[row(1)]))
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_run(tmp_path, run("a", epochs=[row(1), row(2)]))
    assert records.read_run(tmp_path / "suite" / "a") is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 1, "status": "fine"}', "\x00\xff"],
)
def test_damaged_record_is_named_in_one_line(tmp_path, content):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    (folder / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"run.json is damaged: delete .*a and run again") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("data", {"source": "x"}),
        ("environment", {}),
        ("summary", []),
        ("summary", {}),
        ("experiment", {"network": "resnet4"}),
        ("experiment", None),
    ],
)
def test_record_that_lacks_a_part_is_damaged(tmp_path, part, change):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, part: change}))
    with pytest.raises(UsageError, match="run.json is damaged"):
        load(tmp_path)


EPOCHS = ("", "epoch\n1\n3\n", "a,b\n1,2\n", 'epoch\n"1\n', None, "text")


@pytest.mark.parametrize("content", EPOCHS)
def test_damaged_epochs_are_named_in_one_line(tmp_path, content):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    file = folder / "epochs.csv"
    if content == "text":
        content = file.read_text().replace("2.0", "two")
        assert "two" in content
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(UsageError, match=r"epochs.csv is damaged: delete .*a and run again"):
        load(tmp_path)


def test_record_of_another_version_is_not_misread(tmp_path):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(UsageError, match="another version"):
        load(tmp_path)


def test_nothing_recorded_says_so(tmp_path):
    with pytest.raises(UsageError, match="no recorded run under .*run the suite first"):
        load(tmp_path / "nowhere")


def test_measurements_are_read_as_they_were_written(tmp_path):
    measurement = Measurement(
        "resnet4",
        "rk2",
        2,
        "anode",
        64,
        "cpu",
        "float32",
        "seconds_per_step",
        "seconds",
        0.1,
        0.09,
        0.2,
        5,
    )
    records.write_measurements(tmp_path, "suite", [measurement])
    frame = load_measurements(tmp_path / "suite")
    assert [Measurement(**values) for values in frame.to_dict("records")] == [measurement]
    assert load_measurements(tmp_path / "other").empty


def test_no_measurements_can_be_recorded(tmp_path):
    records.write_measurements(tmp_path, "suite", [])
    assert load_measurements(tmp_path / "suite").empty


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "\xff\xfe"])
def test_damaged_measurements_are_named_and_nothing_else_is_to_be_deleted(tmp_path, content):
    file = tmp_path / "measurements.csv"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=f"is damaged: delete {file} and run again"):
        load_measurements(tmp_path)
