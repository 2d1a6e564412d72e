"""--reproduce: a recorded run comes out the same, or it is said what does not."""

import json
import re

import pytest
import torch

import run_bench
from bench import records
from bench.commands import reproduce
from bench.errors import UsageError
from bench.records import checksums
from tests.bench.builders import row, run, write_images

LINE = "--network resnet4 --num_epochs 2 --train-images 20 --test-images 10 --batch_size 10"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    assert run_bench.main([*LINE.split(), "--gradient", "anode,baseline", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def name(results):
    return next(f.name for f in (results / "smoke").iterdir() if "-anode-" in f.name)


def reproduced(results, *more):
    return run_bench.main(["--out", str(results), "--reproduce", *more])


def changed(results, name, **changes):
    """Record the run as if it had been another."""
    found = records.read_run(results / "smoke" / name)
    records.write_run(results, found.__class__(**{**vars(found), **changes}))
    return found


def test_run_comes_out_the_same_and_what_is_loaded_is_what_was(results, name, capsys):
    before = records.load(results)
    assert reproduced(results, name) == 0
    assert (
        "the same: ok, 2 epochs, every observed number to the last bit" in capsys.readouterr().out
    )
    assert reproduced(results, str(results / "smoke" / name)) == 0
    assert records.load(results).equals(before)


def test_baseline_comes_out_the_same(results):
    name = next(f.name for f in (results / "smoke").iterdir() if "-baseline-" in f.name)
    assert reproduced(results, name) == 0


def test_it_is_run_with_the_threads_that_it_had(results, name, capsys):
    found = records.read_run(results / "smoke" / name)
    before = torch.get_num_threads()
    other = 1 if before > 1 else 2
    changed(results, name, environment={**found.environment, "threads": other})
    try:
        reproduced(results, name)
        said = capsys.readouterr().out
        assert re.search(rf"again, on .*, {other} thread", said)
        assert "not as it was: threads" not in said
        assert torch.get_num_threads() == before
    finally:
        records.write_run(results, found)


def test_number_that_is_not_the_same_is_shown_with_exit_code_1(results, name, capsys):
    found = records.read_run(results / "smoke" / name)
    first, second = found.epochs
    wrong = second.__class__(**{**vars(second), "train_loss": second.train_loss * (1 + 2**-50)})
    packages = {**found.environment["packages"], "torch": "1.0"}
    changed(
        results,
        name,
        epochs=[first, wrong],
        environment={**found.environment, "packages": packages},
    )
    try:
        assert reproduced(results, name) == 1
        said = capsys.readouterr().out
        assert re.search(r"train_loss +│ 2 ", said)
        assert "test_loss" not in said
        assert f"not as it was: torch: 1.0 → {torch.__version__}" in said
    finally:
        records.write_run(results, found)


@pytest.mark.parametrize("which", ["nothing", "a/b"])
def test_run_that_is_not_there_is_one_line(results, which, capsys):
    assert reproduced(results, which) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--status shows those that are" in said


def test_failed_run_is_nothing_to_reproduce(results, name, capsys):
    found = changed(results, name, status="failed", reason="because")
    assert reproduced(results, name) == 2
    assert "failed, and is no result: run the suite again" in capsys.readouterr().err
    records.write_run(results, found)


def test_other_data_is_refused(results, name, tmp_path, capsys):
    images = write_images(tmp_path / "images")
    assert reproduced(results, name, "--data-dir", str(images)) == 2
    assert "was recorded on other data" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--Nt 3", "--jobs 2", "--lr 1"])
def test_nothing_of_the_run_can_be_changed(results, name, option, capsys):
    assert reproduced(results, name, *option.split()) == 2
    assert f"leave out {option.split()[0]}" in capsys.readouterr().err


def test_experiment_that_is_not_known_here_names_the_revision():
    made = run("a", environment={"git_revision": "0123abc"})
    other = made.__class__(**{**vars(made), "experiment": {**made.experiment, "new": 1}})
    with pytest.raises(UsageError, match="cannot be run by this version .*0123abc"):
        reproduce.experiment_of(other)


def test_differences_are_the_first_of_each_column():
    nan = float("nan")
    was = run("a", epochs=[row(1, test_loss=nan), row(2), row(3)])
    now = run("a", epochs=[row(1, test_loss=nan, train_seconds=9.0), row(2, nfe_forward=7),
                           row(3, nfe_forward=8, gradient_error_blocks=(0.5, 0.25))])  # fmt: skip
    found = {d.column: (d.epoch, d.now) for d in reproduce.differences(was, now)}
    assert found == {"nfe_forward": (2, 7), "gradient_error_blocks": (3, (0.5, 0.25))}
    shorter = run("a", epochs=[row(1, test_loss=nan)], status="diverged")
    assert [d.column for d in reproduce.differences(was, shorter)] == ["status", "epochs"]


def test_record_has_all_that_it_takes(results, name):
    content = checksums.loads((results / "smoke" / name / "run.json").read_bytes())
    environment = content["environment"]
    assert {"command", "git_revision", "git_dirty", "packages", "cpu", "device_name", "driver"} <= {
        *environment
    }
    assert {"threads", "cudnn_deterministic", "deterministic_algorithms", "precision"} <= {
        *environment
    }
    assert {"tf32_convolutions", "tf32_matrix_products", "started_at", "recorded_at"} <= {
        *environment
    }
    assert environment["started_at"] <= environment["recorded_at"]
    assert content["data"]["fingerprint"]
    beside = checksums.environments(results / "smoke" / "measurements.csv")
    assert [found["data"]["fingerprint"] for found in beside] == [content["data"]["fingerprint"]]
    assert json.dumps(beside)
