"""Records: read as they were written, complete or absent, and never read when damaged."""

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

ONE = run("a", epochs=[row(1), row(2)])
FULL = OSError(28, "No space left on device")


@dataclass(frozen=True)
class Small:
    value: int


def failing(function, at):
    """The function, whose call of that number fails."""
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise FULL
        return function(*args, **kwargs)

    return fail


def test_run_is_read_as_it_was_written(tmp_path):
    nothing = {"gradient_error": None, "gradient_cosine": None}
    nothing |= {"gradient_error_blocks": (), "gradient_cosine_blocks": ()}
    for epochs in ([row(1, train_loss=1 / 3), row(2)], [row(1, **nothing)], []):
        made = run("a", epochs=epochs)
        assert records.read_run(write_run(tmp_path, made)) == made
    assert records.read_run(tmp_path / "nowhere") is None
    write_run(tmp_path, run("a", epochs=[row(1, train_loss=1 / 3), row(2)]))
    frame = load(tmp_path / "suite")
    assert frame["epoch"].tolist() == [1, 2]
    assert frame["train_loss"].tolist() == [1 / 3, 1.0]
    assert frame["gradient_error_block2"].tolist() == [0.125, 0.125]
    columns = ["suite", "run", "network", "seed", "data", "fingerprint"]
    assert [*frame.iloc[0][columns]] == ["suite", "a", "resnet4", 0, "real images", "0123"]
    assert not frame.columns.duplicated().any()


def test_load_takes_a_run_a_suite_or_all_results(tmp_path):
    with pytest.raises(UsageError, match="no recorded run under .*run the suite first"):
        load(tmp_path / "nowhere")
    one_block = {"gradient_error_blocks": (0.1,), "gradient_cosine_blocks": (1.0,)}
    write_run(tmp_path, run("a", epochs=[row(1)]))
    write_run(tmp_path, run("b", suite="other", epochs=[row(1, **one_block), row(2)]))
    assert (len(load(tmp_path)), len(load(str(tmp_path)))) == (3, 3)
    assert (len(load(tmp_path / "other")), len(load(tmp_path / "other" / "b"))) == (2, 2)
    blocks = load(tmp_path).set_index(["run", "epoch"])["gradient_error_block2"]
    assert pd.isna(blocks["b", 1])


@pytest.mark.parametrize("place", ["suite/backup/a", "suite/a/a", "a", "copy/a"])
def test_copy_of_a_run_is_an_error_and_no_second_seed(tmp_path, place):
    folder = write_run(tmp_path, ONE)
    shutil.copytree(folder, tmp_path / place)
    with pytest.raises(UsageError, match="suite/a.*(recorded runs|record one experiment)"):
        load(tmp_path / "suite" if place.startswith("suite") else tmp_path)
    assert len(load_runs(tmp_path / "suite", ["a"])) == 1


def test_run_without_an_epoch_is_a_run_without_rows(tmp_path):
    write_run(tmp_path, run("a", status="diverged", reason="the training loss became nan"))
    assert len(load(tmp_path)) == 0
    assert "run" in load(tmp_path)
    assert load_runs(tmp_path)["reason"].tolist() == ["the training loss became nan"]


def test_infinities_are_kept_where_they_can_be(tmp_path):
    infinite = row(1, gradient_error=float("inf"), test_loss=float("inf"))
    summary = {"final_gradient_error": float("inf"), "final_test_accuracy": 0.5}
    write_run(tmp_path, run(epochs=[infinite], summary=summary))
    assert load(tmp_path)["gradient_error"].tolist() == [float("inf")]
    assert load_runs(tmp_path)["final_gradient_error"].isna().all()


@pytest.mark.parametrize(
    ("module", "call"), [(files.tempfile, "mkstemp"), (os, "fsync"), (os, "replace")]
)
@pytest.mark.parametrize("broken_write", [1, 2])
def test_interrupted_write_leaves_no_half_record(tmp_path, monkeypatch, module, call, broken_write):
    write_run(tmp_path, run("a", epochs=[row(1)]))
    for name in ("a", "b"):  # written again, and for the first time
        with monkeypatch.context() as patched:
            patched.setattr(module, call, failing(getattr(module, call), broken_write))
            with pytest.raises(OSError, match="No space left"):
                write_run(tmp_path, run(name, epochs=[row(1), row(2)]))
        assert not list(tmp_path.rglob(".*"))
        assert records.read_run(tmp_path / "suite" / name) is None
        write_run(tmp_path, run(name, epochs=[row(1), row(2)]))
    assert len(load(tmp_path)) == 4


@pytest.mark.parametrize("broken_write", [1, 2])
def test_table_is_whole_at_every_moment_of_its_writing(tmp_path, monkeypatch, broken_write):
    """Beside it is its checksum, and two files cannot be written at once."""
    file = tmp_path / "rows.csv"
    records.write_rows(file, Small, [Small(1)], [{"machine": "a"}])
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing(os.replace, broken_write))
        with pytest.raises(OSError, match="No space left"):
            records.write_rows(file, Small, [Small(1), Small(2)], [{"machine": "b"}])
    assert records.read_rows(file, Small) == [Small(1)]
    records.write_rows(file, Small, [Small(3)], [{"machine": "c"}])
    assert records.read_rows(file, Small) == [Small(3)]
    assert checksums.environments(file) == [{"machine": "c"}]


def test_new_checksum_does_not_make_a_damaged_table_good(tmp_path, monkeypatch):
    file = tmp_path / "rows.csv"
    records.write_rows(file, Small, [Small(1)])
    file.write_text("value\n7\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing(os.replace, 2))
        with pytest.raises(OSError, match="No space left"):
            records.write_rows(file, Small, [Small(2)])
    with pytest.raises(UsageError, match="its checksum is wrong"):
        records.read_rows(file, Small)


def changed(part):
    return lambda text: json.dumps({**json.loads(text), part: "ok?"})


def one_row_less(text):
    return "".join(text.splitlines(keepends=True)[:-1])


DAMAGES = [
    *(("run.json", text) for text in ("", "{", "[]", "null", '{"schema": 2}', "\x00\xff")),
    *(("run.json", changed(part)) for part in ("data", "summary", "experiment", "status")),
    *(("epochs.csv", text) for text in ("", "epoch\n1\n3\n", 'epoch\n"1\n', None)),
    *(("epochs.csv", change) for change in (one_row_less, lambda text: text.replace("2.0", "3.0"))),
    *(("measurements.csv", text) for text in ("a,b\n1,2\n", "", "\xff\xfe")),
    ("measurements.json", None),
]


@pytest.mark.parametrize(("name", "content"), DAMAGES)
def test_damaged_file_is_named_in_one_line_and_never_read(tmp_path, name, content):
    folder = write_run(tmp_path, ONE)
    records.write_rows(tmp_path / "suite" / records.MEASUREMENTS, Measurement, [])
    file = (folder.parent if name.startswith("meas") else folder) / name
    if content is None:
        file.unlink()
    else:
        text = content(file.read_text()) if callable(content) else content
        assert text != file.read_text()
        file.write_text(text, encoding="latin-1")
    said = rf"{name} is damaged .*: run the suite again|there is no whole {name}"
    with pytest.raises(UsageError, match=said) as error:
        load_measurements(folder.parent) if name.startswith("meas") else load(tmp_path)
    assert "\n" not in str(error.value)


def test_record_of_another_run_or_version_is_not_misread(tmp_path):
    folder = write_run(tmp_path, ONE)
    other = write_run(tmp_path, run("b", epochs=[row(1)]))
    content = checksums.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_text(checksums.dumps({**content, "schema": 99}))
    with pytest.raises(UsageError, match="another version"):
        load(tmp_path)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(UsageError, match=r"a/run.json is damaged .it is the record of b.: run the"):
        load(tmp_path)
    with pytest.raises(checksums.DamagedRecordError):
        records.read_run(folder)


def test_measurements_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "suite" / records.MEASUREMENTS
    where = ("resnet4", "rk2", 2, "anode", 64, "cpu", "float32", "seconds_per_step", "seconds")
    for rows in ([Measurement(*where, 0.1, 0.09, 0.2, 5)], []):
        records.write_rows(file, Measurement, rows)
        frame = load_measurements(tmp_path / "suite")
        assert [Measurement(**values) for values in frame.to_dict("records")] == rows
    assert load_measurements(tmp_path / "other").empty
