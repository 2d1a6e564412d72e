"""The command line, from arguments to figures."""

import dataclasses
import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import run_bench
from bench import data, records
from bench.records import WALL_CLOCK_COLUMNS
from solvers import odeint
from tests.bench.builders import write_images

ROOT = Path(__file__).parents[1]
SMALL = ["--network", "resnet4", "--num_epochs", "2", "--train-images", "64"]


def command(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "run_bench.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def test_suite_runs_to_its_figures_and_is_not_run_again(tmp_path):
    out = ["--out", str(tmp_path)]
    first = command(*SMALL, *out)
    assert first.returncode == 0, first.stderr
    assert "3 runs, about" in first.stdout
    assert "generated images" in first.stdout
    folder = tmp_path / "smoke"
    assert len(list((folder / "figures").glob("resnet4-*/*.png"))) == 4  # of a narrowed suite
    assert len(list((folder / "figures").glob("resnet4-*/report.html"))) == 1
    frame = records.load(folder)
    assert len(frame) == 3 * 2
    assert set(frame["gradient"]) == {"baseline", "node", "anode"}
    content = json.loads(next(folder.glob("*anode*/run.json")).read_text())
    assert content["environment"]["command"].startswith("run_bench.py --network resnet4")
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("run.json")}

    again = command(*SMALL, *out)
    assert again.returncode == 0
    assert "all 3 runs are recorded already" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("run.json")} == before

    more = command(*SMALL, "--gradient", "anode,backprop", *out)
    assert "1 run, about" in more.stdout
    assert "(1 are recorded already)" in more.stdout


def test_images_of_ones_own_in_other_classes(tmp_path, capsys):
    folder = write_images(tmp_path / "images", per_class=8, classes=["oak", "ash", "elm"])
    line = ["--network", "resnet4", "--num_epochs", "1", "--gradient", "baseline,anode"]
    line += ["--train-images", "24", "--test-images", "24", "--batch_size", "8"]
    line += ["--data-dir", str(folder), "--out", str(tmp_path)]
    assert run_bench.main(line) == 0
    assert "classes: ash, elm, oak" in capsys.readouterr().out
    content = json.loads(next((tmp_path / "smoke").glob("*anode*classes3*/run.json")).read_text())
    assert content["experiment"]["num_classes"] == 3
    assert content["data"]["classes"] == ["ash", "elm", "oak"]
    table = (tmp_path / "smoke" / "figures" / "accuracy.md").read_text()
    assert "folder of images in 3 classes of its own" in table
    assert "ublished" not in table
    assert run_bench.main([*line, "--status"]) == 0
    assert "smoke in" in (said := capsys.readouterr().out)
    assert "2 done" in said
    assert run_bench.main(["--reproduce", content["name"], "--out", str(tmp_path)]) == 2
    assert "give that data" in capsys.readouterr().err


def test_same_command_gives_the_same_record(tmp_path):
    tables = []
    for name in ("one", "other"):
        out = tmp_path / name
        assert command(*SMALL, "--gradient", "node", "--out", str(out)).returncode == 0
        (file,) = out.rglob("epochs.csv")
        tables.append(pd.read_csv(file, dtype=str).drop(columns=list(WALL_CLOCK_COLUMNS)))
    pd.testing.assert_frame_equal(*tables)


def test_figures_are_drawn_again_by_the_command_that_their_report_names(tmp_path):
    arguments = [*SMALL, "--gradient", "anode", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    (figure,) = (tmp_path / "smoke" / "figures").glob("*/training-rk2-nt2.png")
    page = (figure.parent / "report.html").read_text(encoding="utf-8")
    command = shlex.split(html.unescape(re.search("<code>(.+?)</code>", page)[1]))
    figure.unlink()
    assert run_bench.main(command[command.index("--suite") :]) == 0
    assert figure.exists()


class Fails:
    name = "fails"

    def solve(self, rhs, z0, method, n_steps):
        raise RuntimeError("this gradient method is broken")


FAILS = Fails()


def test_failing_experiment_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    gradients = "tests.test_end_to_end:FAILS,anode"
    arguments = [*SMALL, "--gradient", gradients, "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 3
    assert "failed" in capsys.readouterr().err
    runs = records.load_runs(tmp_path).set_index("gradient")
    assert runs["status"].to_dict() == {"tests.test_end_to_end:FAILS": "failed", "anode": "ok"}
    assert "this gradient method is broken" in runs.loc["tests.test_end_to_end:FAILS", "reason"]
    monkeypatch.setattr(
        Fails,
        "solve",
        lambda self, *args: odeint(
            args[0], args[1], method=args[2], n_steps=args[3], gradient="backprop"
        ),
    )
    assert run_bench.main(arguments) == 0
    assert set(records.load_runs(tmp_path)["status"]) == {"ok"}


def exhausts(*args):
    raise MemoryError


def test_out_of_memory_is_told_again_and_tried_again_only_when_it_is_asked_for(
    tmp_path, monkeypatch, capsys
):
    arguments = [*SMALL, "--gradient", "tests.test_end_to_end:FAILS,anode", "--out", str(tmp_path)]
    monkeypatch.setattr(Fails, "solve", exhausts)
    for said in ("says why\n", "says why; --fresh tries it again\n"):
        assert run_bench.main(arguments) == 3
        told = capsys.readouterr().err
        assert " oom: " in told
        assert told.endswith(said)
        assert told.count("\n") == 1
    assert run_bench.main([*SMALL, "--gradient", "anode", "--out", str(tmp_path)]) == 0


def test_characters_that_the_output_lacks_are_escaped(tmp_path):
    out = tmp_path / "é"
    out.mkdir()
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    found = command("--status", "--out", str(out), env=plain)
    assert (found.returncode, found.stderr) == (0, "")
    assert "smoke in " + str(tmp_path / r"\xe9") in found.stdout


def test_divergence_is_a_result(tmp_path):
    arguments = [*SMALL, "--lr", "1e38", "--gradient", "anode", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    assert records.load_runs(tmp_path)["status"].tolist() == ["diverged"]


def test_other_data_does_not_mix_with_what_is_recorded(tmp_path, monkeypatch, capsys):
    arguments = [*SMALL, "--gradient", "anode", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 0
    original = data.load
    monkeypatch.setattr(
        data,
        "load",
        lambda *args, **kwargs: dataclasses.replace(original(*args, **kwargs), fingerprint="other"),
    )
    assert run_bench.main(arguments) == 2
    assert "was recorded on other data" in capsys.readouterr().err


def test_full_disk_is_one_line_and_keeps_what_is_recorded(tmp_path, monkeypatch, capsys):
    original = records.write_run
    written = []

    def fill(results, run):
        if written:
            raise OSError(28, "No space left on device")
        written.append(run)
        return original(results, run)

    monkeypatch.setattr(records, "write_run", fill)
    arguments = [*SMALL, "--gradient", "anode,node", "--out", str(tmp_path)]
    assert run_bench.main(arguments) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert said.count("\n") == 1
    assert len(records.load_runs(tmp_path)) == 1


def test_interrupt_keeps_finished_runs_and_exits_130(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "run_bench.py", "--num_epochs", "50", "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background has its children ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if "runs, about" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said


def test_list_names_every_suite_and_its_number_of_runs():
    listed = command("--list", env={**os.environ, "COLUMNS": "200"})
    assert listed.returncode == 0, listed.stderr
    for suite, runs in (("smoke", 12), ("cifar10-short", 84), ("cifar10", 140), ("cifar100", 3)):
        (line,) = [line for line in listed.stdout.splitlines() if f" {suite} " in line]
        assert f" {runs} " in line


def test_error_of_a_user_has_no_traceback():
    failed = command("--suite", "cifar11")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1


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
    for how in ("captured", "eager"):
        out = tmp_path / how
        eager = ["--eager"] if how == "eager" else []
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
