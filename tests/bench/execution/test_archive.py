"""--fresh starts over, and keeps the old results aside."""

import errno

import pytest

import run_bench
from bench import records
from bench.errors import UsageError
from bench.execution import archive
from bench.records import locks
from tests.bench.builders import ONE_EPOCH_LINE, experiment, record_of, workload


def command(out, *more):
    return run_bench.main([*ONE_EPOCH_LINE.split(), *more, "--out", str(out)])


def test_fresh_runs_again_what_is_asked_for_and_archives_the_old(tmp_path, capsys):
    assert command(tmp_path, "--gradient", "anode,backprop", "--fresh") == 0
    assert "--fresh: there are no old results" in capsys.readouterr().out
    assert not list(tmp_path.glob("*aside*"))
    before = [f.read_bytes() for f in tmp_path.rglob("run.json")]
    assert command(tmp_path, "--gradient", "anode", "--fresh") == 0
    said = capsys.readouterr().out
    (old,) = tmp_path.glob("smoke.aside-*")
    assert f"--fresh: the old results (1) are now in {old}" in said
    assert "1 run, about" in said
    (moved,) = old.rglob("run.json")
    assert "anode" in moved.parent.name
    assert moved.read_bytes() in before
    # What is aside is no part of the results, unless it is named.
    assert (len(records.load_runs(tmp_path)), len(records.load_runs(old))) == (2, 1)
    costs = records.read_rows(tmp_path / "smoke" / records.MEASUREMENTS, records.Measurement)
    assert {m.gradient for m in costs} == {"anode", "backprop"}
    assert "anode" in (table := (old / "measurements.csv").read_text())
    assert "backprop" not in table


@pytest.mark.parametrize("is_recorded", [True, False])
def test_fresh_does_not_move_what_another_process_is_running(tmp_path, is_recorded):
    one, place = experiment(), workload(tmp_path)
    if is_recorded:
        records.write_run(tmp_path, record_of(one))
    with (
        locks.claim(place.folder, one.name),
        pytest.raises(UsageError, match=f"another process is working on {one.name}"),
    ):
        archive.archive_runs(place, [one])
    assert (place.folder / one.name / "run.json").exists() == is_recorded


def test_two_starts_over_in_one_second_are_kept_apart(tmp_path):
    one, place, folders = experiment(), workload(tmp_path), set()
    for _ in range(2):
        records.write_run(tmp_path, record_of(one))
        count, old = archive.archive_runs(place, [one])
        assert count == 1
        folders.add(old)
    assert len(folders) == 2
    assert all((old / one.name / "run.json").exists() for old in folders)


def test_fresh_measures_again(tmp_path, capsys):
    line = "--suite memory --network resnet4 --method euler --Nt 1 --batch_size 2 --gradient anode"
    for more in ((), ("--fresh",)):
        assert run_bench.main([*line.split(), "--out", str(tmp_path), *more]) == 0
    said = capsys.readouterr().out
    assert "--fresh: the old results (1) are now in" in said
    assert "recorded already" not in said
    (old,) = tmp_path.glob("memory.aside-*")
    assert (old / "measurements.csv").exists()


@pytest.mark.parametrize("fails", ["os.rename", "pathlib.Path.unlink"])
def test_measurements_stay_whole_when_moving_them_fails(fails, tmp_path, monkeypatch):
    row = records.MemoryRow("resnet4", 1, "euler", 1, "anode", 2, "cpu", 4, 8, 1, 2)
    records.write_rows(tmp_path / "memory" / "measurements.csv", records.MemoryRow, [row], [{}])

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(fails, refuse)
        with pytest.raises(UsageError, match="what is recorded already is kept"):
            archive.archive_measurements(tmp_path / "memory")
    (file,) = tmp_path.rglob("measurements.csv")
    assert records.read_rows(file, records.MemoryRow) == [row]
    archive.archive_measurements(tmp_path / "memory")  # moves the rest
    assert not list((tmp_path / "memory").glob("measurements.*"))
