"""The command line, from arguments to figures."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import run_bench
from bench import data, records
from solvers import odeint

pytestmark = pytest.mark.usefixtures("quickly_drawn")

ROOT = Path(__file__).parents[1]
SMALL = ["--network", "resnet4", "--num_epochs", "2", "--train-images", "20"]
SMALL += ["--test-images", "10", "--batch_size", "10"]


def test_suite_runs_to_its_figures_and_is_not_run_again(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert run_bench.main([*SMALL, *out]) == 0
    said = capsys.readouterr().out
    assert "3 runs, about" in said
    assert "generated images" in said
    folder = tmp_path / "smoke"
    assert len(list((folder / "figures").glob("resnet4-*/*.png"))) == 4  # of a narrowed suite
    assert len(list((folder / "figures").glob("resnet4-*/report.html"))) == 1
    frame = records.load(folder)
    assert len(frame) == 3 * 2
    assert set(frame["gradient"]) == {"baseline", "node", "anode"}
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("run.json")}
    assert run_bench.main([*SMALL, *out]) == 0
    assert "all 3 runs are recorded already" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("run.json")} == before
    assert run_bench.main([*SMALL, "--gradient", "anode,backprop", *out]) == 0
    said = capsys.readouterr().out
    assert "1 run, about" in said
    assert "(1 are recorded already)" in said
    (figure,) = (folder / "figures").glob("*-baseline-node-anode-*/training-rk2-nt2.png")
    figure.unlink()
    assert run_bench.main([*SMALL, "--plots-only", *out]) == 0
    assert figure.exists()


class Fails:
    name = "fails"

    def solve(self, rhs, z0, method, n_steps):
        raise RuntimeError("this gradient method is broken")


FAILS = Fails()
ONE_FAILS = [*SMALL, "--gradient", f"{__name__}:FAILS,anode"]


def test_failing_experiment_does_not_stop_the_others_and_is_tried_again(
    tmp_path, monkeypatch, capsys
):
    arguments = [*ONE_FAILS, "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 3
    assert "failed" in capsys.readouterr().err
    runs = records.load_runs(tmp_path).set_index("gradient")
    assert runs["status"].to_dict() == {f"{__name__}:FAILS": "failed", "anode": "ok"}
    assert "this gradient method is broken" in runs.loc[f"{__name__}:FAILS", "reason"]

    def solve(self, rhs, z0, method, n_steps):
        return odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")

    monkeypatch.setattr(Fails, "solve", solve)
    assert run_bench.main(arguments) == 0
    assert set(records.load_runs(tmp_path)["status"]) == {"ok"}


def test_out_of_memory_is_a_result_that_is_shown_again_and_tried_again_with_fresh(
    tmp_path, monkeypatch, capsys
):
    def exhausts(*args):
        raise MemoryError

    monkeypatch.setattr(Fails, "solve", exhausts)
    for said in ("says why", "says why; --fresh tries it again"):
        assert run_bench.main([*ONE_FAILS, "--out", str(tmp_path)]) == 3
        (error,) = capsys.readouterr().err.splitlines()
        assert " oom: " in error
        assert error.endswith(said)
    assert run_bench.main([*SMALL, "--gradient", "anode", "--out", str(tmp_path)]) == 0


def test_divergence_is_a_result(tmp_path):
    arguments = [*SMALL, "--lr", "1e38", "--gradient", "anode", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    assert records.load_runs(tmp_path)["status"].tolist() == ["diverged"]


def test_other_data_does_not_mix_with_recorded_data(tmp_path, monkeypatch, capsys):
    arguments = [*SMALL, "--gradient", "anode", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    original = data.load

    def load(*args, **kwargs):
        return dataclasses.replace(original(*args, **kwargs), fingerprint="other")

    monkeypatch.setattr(data, "load", load)
    assert run_bench.main(arguments) == 2
    assert "was recorded on other data" in capsys.readouterr().err


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "run_bench.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_status_is_printed_in_any_encoding_and_an_error_has_no_traceback(tmp_path):
    out = tmp_path / "é"
    out.mkdir()
    plain = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    found = command("--status", "--out", str(out), **plain)
    assert (found.returncode, found.stderr) == (0, "")
    assert "smoke in " + str(tmp_path / r"\xe9") in found.stdout
    failed = command("--suite", "cifar11")
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (2, "", 1)


def test_real_images_train(real_images, tmp_path):
    arguments = ["--suite", "cifar10-quick", "--data-dir", str(real_images), *SMALL]
    assert run_bench.main([*arguments, "--out", str(tmp_path)]) == 0
    runs = records.load_runs(tmp_path)
    assert len(runs) == 3
    assert not runs["is_generated"].any()
    assert runs["data"].str.contains("folder of images").all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_same_command_runs_on_cuda_captured_and_eager_with_the_same_bits(tmp_path):
    """Ten steps an epoch, and two drops of the learning rate: captured three times."""
    line = "--network resnet4 --train-images 640 --test-images 100 --num_epochs 7 --device cuda"
    frames = {}
    for how, eager in (("captured", []), ("eager", ["--eager"])):
        out = tmp_path / how
        assert run_bench.main([*line.split(), *eager, "--out", str(out)]) == 0
        frames[how] = records.load(out).set_index(["run", "epoch"])
        for file in out.glob("smoke/*/run.json"):
            run = json.loads(file.read_text())
            execution = "eager" if run["experiment"]["gradient"] == "node" else how
            assert run["environment"]["execution"].startswith(execution)
    frame = frames["captured"]
    assert (frame[frame["gradient"] == "anode"]["gradient_error"] == 0).all()
    assert (frame[frame["gradient"] == "node"]["gradient_error"] > 0).all()
    for column in ("train_loss", "test_loss", "test_accuracy"):
        assert (frame[column] == frames["eager"][column]).all()
