import json
import os
import shutil
from dataclasses import dataclass

import pandas as pd
import pytest

from bench import records
from bench.errors import UsageError
from bench.records import (
    Measurement,
    checksums,
    files,
    load,
    load_measurements,
    load_runs,
    write_run,
)
from tests.bench.builders import row, run


@dataclass(frozen=True)
class Small:
    value: int


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


@pytest.mark.parametrize("place", ["suite/backup/a", "suite/a/a", "backup/suite/a", "a"])
def test_copy_of_a_run_is_an_error_and_no_second_seed(tmp_path, place):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    shutil.copytree(folder, tmp_path / place)
    above = tmp_path / "suite" if place.startswith("suite") else tmp_path
    if place == "backup/suite/a":
        # Not where a run is looked for, so it is none.
        assert len(load_runs(above)) == 1
    else:
        with pytest.raises(UsageError, match="a and .*a record one experiment.*move a copy away"):
            load_runs(above)
    assert len(load_runs(tmp_path / "suite", ["a"])) == len(load(tmp_path / "suite", ["a"])) == 1


def test_two_records_of_one_experiment_are_not_loaded_together(tmp_path):
    write_run(tmp_path, run("a", epochs=[row(1)]))
    shutil.copytree(tmp_path / "suite", tmp_path / "copy")
    with pytest.raises(UsageError, match="copy/a and .*suite/a record one experiment"):
        load(tmp_path)
    assert len(load(tmp_path / "copy")) == 1


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


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": 2}', "\x00\xff"])
def test_damaged_record_is_named_in_one_line(tmp_path, content):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    (folder / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"run.json is damaged .*: run the suite again") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["data", "environment", "summary", "experiment", "status"])
def test_record_that_was_changed_is_damaged(tmp_path, part):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**content, part: "ok?"}))
    with pytest.raises(UsageError, match="run.json is damaged"):
        load(tmp_path)


EPOCHS = ("", "epoch\n1\n3\n", "a,b\n1,2\n", 'epoch\n"1\n', None, "a digit", "a row less")


@pytest.mark.parametrize("content", EPOCHS)
def test_damaged_epochs_are_named_in_one_line(tmp_path, content):
    folder = write_run(tmp_path, run("a", epochs=[row(1), row(2)]))
    file = folder / "epochs.csv"
    whole = file.read_text()
    if content == "a digit":
        content = whole.replace("2.0", "3.0")
    elif content == "a row less":
        content = "".join(whole.splitlines(keepends=True)[:-1])
    assert content != whole
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(UsageError, match=r"epochs.csv is damaged .*: run the suite again"):
        load(tmp_path)


def test_record_of_another_version_is_not_misread(tmp_path):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    content = checksums.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_text(checksums.dumps({**content, "schema": 99}))
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
    records.write_rows(tmp_path / "suite" / records.MEASUREMENTS, Measurement, [measurement])
    frame = load_measurements(tmp_path / "suite")
    assert [Measurement(**values) for values in frame.to_dict("records")] == [measurement]
    assert load_measurements(tmp_path / "other").empty


def test_no_measurements_can_be_recorded(tmp_path):
    records.write_rows(tmp_path / "suite" / records.MEASUREMENTS, Measurement, [])
    assert load_measurements(tmp_path / "suite").empty


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "\xff\xfe"])
def test_damaged_measurements_are_named_and_never_read(tmp_path, content):
    records.write_rows(tmp_path / "suite" / records.MEASUREMENTS, Measurement, [])
    file = tmp_path / "suite" / "measurements.csv"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=f"{file} is damaged .its checksum is wrong."):
        load_measurements(tmp_path / "suite")


def test_table_that_was_not_recorded_is_not_read(tmp_path):
    records.write_rows(tmp_path / "suite" / records.MEASUREMENTS, Measurement, [])
    (tmp_path / "suite" / "measurements.json").unlink()
    with pytest.raises(UsageError, match="there is no whole measurements.json"):
        load_measurements(tmp_path / "suite")


@pytest.mark.parametrize("broken_write", [1, 2])
def test_table_is_whole_at_every_moment_of_its_writing(tmp_path, monkeypatch, broken_write):
    """Beside it is its checksum, and two files cannot be written at once."""
    file, original, calls = tmp_path / "rows.csv", os.replace, []

    def fail(*args):
        calls.append(args)
        if len(calls) == broken_write:
            raise OSError(28, "No space left on device")
        return original(*args)

    records.write_rows(file, Small, [Small(1)], [{"machine": "a"}])
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        records.write_rows(file, Small, [Small(1), Small(2)], [{"machine": "b"}])
    monkeypatch.undo()
    assert records.read_rows(file, Small) == [Small(1)]
    records.write_rows(file, Small, [Small(3)], [{"machine": "c"}])
    assert records.read_rows(file, Small) == [Small(3)]
    assert checksums.environments(file) == [{"machine": "c"}]


def test_new_record_does_not_make_a_damaged_table_good(tmp_path, monkeypatch):
    file = tmp_path / "rows.csv"
    records.write_rows(file, Small, [Small(1)])
    file.write_text("value\n7\n")
    original = os.replace
    broken = iter([original, lambda *args: (_ for _ in ()).throw(OSError(28, "full"))])
    monkeypatch.setattr(os, "replace", lambda *args: next(broken)(*args))
    with pytest.raises(OSError, match="full"):
        records.write_rows(file, Small, [Small(2)])
    monkeypatch.undo()
    with pytest.raises(UsageError, match="its checksum is wrong"):
        records.read_rows(file, Small)


def test_damaged_files_are_set_aside_under_another_name(tmp_path):
    folder = write_run(tmp_path, run("a", epochs=[row(1)]))
    (folder / "epochs.csv").write_text("")
    with pytest.raises(checksums.DamagedRecordError) as error:
        records.read_run(folder)
    assert "kept as run.json.damaged and epochs.csv.damaged" in error.value.set_aside()
    assert {file.name for file in folder.iterdir()} == {"run.json.damaged", "epochs.csv.damaged"}
    assert records.read_run(folder) is None


def test_record_of_another_run_is_not_taken_for_this_one(tmp_path):
    first = write_run(tmp_path, run("a", epochs=[row(1)]))
    write_run(tmp_path, run("b", epochs=[row(1), row(2)]))
    shutil.rmtree(first)
    shutil.copytree(tmp_path / "suite" / "b", first)
    with pytest.raises(UsageError, match=r"a/run.json is damaged .it is the record of b.: run the"):
        load(tmp_path)
    with pytest.raises(checksums.DamagedRecordError):
        records.read_run(first)
