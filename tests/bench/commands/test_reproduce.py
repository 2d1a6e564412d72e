"""--reproduce: a recorded run comes out the same, or what does not is shown."""

import re
from dataclasses import replace

import pytest
import torch

import run_bench
from bench import environment, records
from bench.commands import reproduce
from bench.errors import UsageError
from bench.records import checksums
from tests.bench.builders import ONE_EPOCH_LINE, row, run, write_images

LINE = ONE_EPOCH_LINE.replace("--num_epochs 1", "--num_epochs 2")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    assert run_bench.main([*LINE.split(), "--gradient", "anode,baseline", "--out", str(out)]) == 0
    return out


def name_of(results, gradient):
    (found,) = (results / "smoke").glob(f"*-{gradient}-*")
    return found.name


@pytest.fixture(scope="module")
def name(results):
    return name_of(results, "anode")


@pytest.fixture
def recorded(results, name):
    """The recorded run; it is written back after the test."""
    found = records.read_run(results / "smoke" / name)
    yield found
    records.write_run(results, found)


def reproduced(results, *more):
    return run_bench.main(["--out", str(results), "--reproduce", *more])


def test_runs_come_out_the_same_and_records_are_not_changed(results, name, capsys):
    before = records.load(results)
    for one in (name, name_of(results, "baseline"), str(results / "smoke" / name)):
        assert reproduced(results, one) == 0
        said = capsys.readouterr().out
        assert "the same: ok, 2 epochs, every observed number to the last bit" in said
    assert records.load(results).equals(before)


def test_run_is_repeated_with_the_threads_that_it_had(results, recorded, capsys):
    one = {**recorded.environment, "threads": 1}
    records.write_run(results, replace(recorded, environment=one))
    with environment.threads(2):
        reproduced(results, recorded.name)
        assert torch.get_num_threads() == 2
    said = capsys.readouterr().out
    assert re.search(r"again, on .*, 1 thread", said)
    assert "not as it was: threads" not in said


def test_number_that_is_not_the_same_is_shown_with_exit_code_1(results, recorded, capsys):
    first, second = recorded.epochs
    wrong = replace(second, train_loss=second.train_loss * (1 + 2**-50))
    packages = {**recorded.environment["packages"], "torch": "1.0"}
    environment = {**recorded.environment, "packages": packages}
    records.write_run(results, replace(recorded, epochs=[first, wrong], environment=environment))
    assert reproduced(results, recorded.name) == 1
    said = capsys.readouterr().out
    assert re.search(r"train_loss +│ 2 ", said)
    assert "test_loss" not in said
    assert f"not as it was: torch: 1.0 → {torch.__version__}" in said


def test_failed_run_is_nothing_to_reproduce(results, recorded, capsys):
    records.write_run(results, replace(recorded, status="failed", reason="because"))
    assert reproduced(results, recorded.name) == 2
    assert "failed, and is no result: run the suite again" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["nothing", "a/b"])
def test_unknown_run_is_one_line(results, which, capsys):
    assert reproduced(results, which) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "--status shows those that are" in said


def test_other_data_is_refused(results, name, tmp_path, capsys):
    images = write_images(tmp_path / "images")
    assert reproduced(results, name, "--data-dir", str(images)) == 2
    assert "was recorded on other data" in capsys.readouterr().err


def test_experiment_of_another_version_names_the_revision():
    made = run("a", environment={"git_revision": "0123abc"})
    other = replace(made, experiment={**made.experiment, "new": 1})
    with pytest.raises(UsageError, match="cannot be run by this version .*0123abc"):
        reproduce.experiment_of(other)


def test_differences_are_the_first_of_each_column():
    first = row(1, test_loss=float("nan"))
    was = run("a", epochs=[first, row(2), row(3)])
    changed = row(3, nfe_forward=8, gradient_error_blocks=(0.5, 0.25))
    now = run("a", epochs=[replace(first, train_seconds=9.0), row(2, nfe_forward=7), changed])
    found = {d.column: (d.epoch, d.now) for d in reproduce.differences(was, now)}
    assert found == {"nfe_forward": (2, 7), "gradient_error_blocks": (3, (0.5, 0.25))}
    # A record of an earlier version lacks columns.
    early, late = (run("a", epochs=[row(1, test_loss_plain=v)]) for v in (None, 0.5))
    assert reproduce.differences(early, late) == []
    assert [d.column for d in reproduce.differences(late, early)] == ["test_loss_plain"]
    shorter = run("a", epochs=[first], status="diverged")
    assert [d.column for d in reproduce.differences(was, shorter)] == ["status", "epochs"]


def test_record_states_everything_that_a_reproduction_needs(results, name):
    content = checksums.loads((results / "smoke" / name / "run.json").read_bytes())
    environment = content["environment"]
    assert {
        *("command", "git_revision", "git_dirty", "packages", "cpu", "device_name", "driver"),
        *("threads", "cudnn_deterministic", "deterministic_algorithms", "precision"),
        *("tf32_convolutions", "tf32_matrix_products", "started_at", "recorded_at"),
    } <= {*environment}
    assert environment["started_at"] <= environment["recorded_at"]
    (beside,) = checksums.environments(results / "smoke" / "measurements.csv")
    assert beside["data"]["fingerprint"] == content["data"]["fingerprint"] != ""
