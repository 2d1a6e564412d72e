"""--fresh: starting over."""

import errno

import pytest

import run_bench
from bench import records
from bench.errors import UsageError
from bench.execution import archive
from bench.records import locks
from tests.bench.builders import experiment, ran, workload

SMALL = "--network resnet4 --num_epochs 1 --train-images 20 --test-images 10 --batch_size 10"


def command(out, *more):
    return run_bench.main([*SMALL.split(), *more, "--out", str(out)])


def test_fresh_runs_again_what_is_asked_for_and_keeps_the_old_aside(tmp_path, capsys):
    assert command(tmp_path, "--gradient", "anode,backprop") == 0
    before = {f: f.read_bytes() for f in tmp_path.rglob("run.json")}
    capsys.readouterr()
    assert command(tmp_path, "--gradient", "anode", "--fresh") == 0
    said = capsys.readouterr().out
    (old,) = tmp_path.glob("smoke.aside-*")
    assert f"--fresh: the old results (1) are now in {old}" in said
    assert "1 run, about" in said
    (moved,) = old.rglob("run.json")
    assert "anode" in moved.parent.name
    assert moved.read_bytes() in before.values()
    assert len(list((tmp_path / "smoke").rglob("run.json"))) == 2
    # What is aside is no part of the results, unless it is named.
    assert len(records.load_runs(tmp_path)) == 2
    assert len(records.load_runs(old)) == 1
    costs = records.read_rows(tmp_path / "smoke" / records.MEASUREMENTS, records.Measurement)
    assert {m.gradient for m in costs} == {"anode", "backprop"}
    assert "anode" in (old / "measurements.csv").read_text()
    assert "backprop" not in (old / "measurements.csv").read_text()


def test_fresh_with_nothing_old_says_so(tmp_path, capsys):
    assert command(tmp_path, "--gradient", "anode", "--fresh") == 0
    assert "--fresh: there are no old results" in capsys.readouterr().out
    assert not list(tmp_path.glob("*aside*"))


def test_fresh_does_not_move_what_another_process_is_running(tmp_path):
    one, place = experiment(num_epochs=1), workload(tmp_path)
    folder = records.write_run(place.results, ran(place, one))
    with (
        locks.claim(place.folder, one.name),
        pytest.raises(UsageError, match=f"another process is working on {one.name}"),
    ):
        archive.put_aside(place, [one])
    assert (folder / "run.json").exists()


def test_fresh_does_not_take_the_step_costs_of_a_run_that_has_just_begun(tmp_path):
    one, place = experiment(num_epochs=1), workload(tmp_path)
    with (
        locks.claim(place.folder, one.name),
        pytest.raises(UsageError, match=f"another process is working on {one.name}"),
    ):
        archive.put_aside(place, [one])


def test_two_starts_over_in_one_second_are_kept_apart(tmp_path):
    one, place = experiment(num_epochs=1), workload(tmp_path)
    made = ran(place, one)
    places = set()
    for _ in range(2):
        records.write_run(place.results, made)
        count, old = archive.put_aside(place, [one])
        assert count == 1
        places.add(old)
    assert len(places) == 2
    assert all((old / one.name / "run.json").exists() for old in places)


def test_measurements_are_made_anew(tmp_path, capsys):
    line = "--suite memory --network resnet4 --method euler --Nt 1 --batch_size 2 --gradient anode"
    arguments = [*line.split(), "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    assert run_bench.main([*arguments, "--fresh"]) == 0
    said = capsys.readouterr().out
    assert "--fresh: the old results (1) are now in" in said
    assert "recorded already" not in said
    (old,) = tmp_path.glob("memory.aside-*")
    assert (old / "measurements.csv").exists()


@pytest.mark.parametrize("fails", ["os.rename", "pathlib.Path.unlink"])
def test_measurements_are_whole_wherever_they_are_when_moving_them_fails(
    fails, tmp_path, monkeypatch
):
    row = records.MemoryRow("resnet4", 1, "euler", 1, "anode", 2, "cpu", 4, 8, 1, 2)
    records.write_rows(tmp_path / "memory" / "measurements.csv", records.MemoryRow, [row], [{}])

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(fails, refuse)
        with pytest.raises(UsageError, match="what is recorded already is kept"):
            archive.put_measurements_aside(tmp_path / "memory")
    (file,) = tmp_path.rglob("measurements.csv")
    assert records.read_rows(file, records.MemoryRow) == [row]
    # The same command once more moves what is left.
    archive.put_measurements_aside(tmp_path / "memory")
    assert not list((tmp_path / "memory").glob("measurements.*"))


@pytest.mark.parametrize("action", ["--list", "--plots-only"])
def test_fresh_is_for_running(action, tmp_path, capsys):
    assert run_bench.main(["--fresh", action, "--out", str(tmp_path)]) == 2
    assert f"--fresh and {action} exclude each other" in capsys.readouterr().err
