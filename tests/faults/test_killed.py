"""A command that is killed, and given again."""

import json
import random
import signal
import time

import pytest

from tests.faults.command import finish, kill, read_until, start, tables

TINY = "--train-images 40 --test-images 10 --batch_size 16"
SMOKE = (
    f"{TINY} --num_epochs 3 --network alexnet,resnet4,resnet10,squeezenext "
    "--gradient baseline,backprop,anode,anode-auto,node"
)


def killed_and_given_again(line, out, seed, kills, seconds):
    """Kill the command so many times, each at a random moment after it began to train, and have
    it end."""
    moments = random.Random(seed)
    for _ in range(kills):
        process = start(*line.split(), out=out)
        said = read_until(process, " run")  # how many are left, or that none is
        time.sleep(moments.uniform(0, seconds))
        said += kill(process)
        assert "Traceback" not in said
    said, code = finish(start(*line.split(), out=out))
    assert code == 0, said


def resumed(out):
    runs = [json.loads(file.read_text()) for file in out.rglob("run.json")]
    assert all(run["status"] == "ok" for run in runs)
    return sum(len(run["environment"]["resumed_at"]) for run in runs)


def never_stopped(line, out):
    said, code = finish(start(*line.split(), out=out))
    assert code == 0, said
    return tables(out)


BOTH = [1, pytest.param(2, marks=pytest.mark.faults)]


@pytest.mark.parametrize("jobs", BOTH)
def test_kill_9_at_random_moments_leaves_the_record_of_a_run_that_never_stopped(tmp_path, jobs):
    line = f"{TINY} --network resnet10 --gradient anode-auto --num_epochs 8"
    expected = never_stopped(line, tmp_path / "never")
    line += f" --jobs {jobs}" if jobs > 1 else ""
    killed_and_given_again(line, tmp_path / "often", jobs, kills=2, seconds=2)
    assert tables(tmp_path / "often") == expected
    assert not list(tmp_path.rglob("checkpoint.pt*"))


@pytest.mark.faults
def test_kill_9_25_times_over_networks_and_gradients(tmp_path):
    expected = never_stopped(SMOKE, tmp_path / "never")
    for seed in range(5):
        out = tmp_path / str(seed)
        killed_and_given_again(SMOKE, out, seed, kills=5, seconds=8)
        assert tables(out) == expected
        assert resumed(out) > 0
        assert not list(out.rglob("checkpoint.pt*"))


@pytest.mark.parametrize("jobs", BOTH)
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path, jobs):
    line = f"{TINY} --network resnet4 --gradient anode,node --num_epochs 20"
    options = [*line.split(), "--jobs", str(jobs)]
    process = start(*options, out=tmp_path)
    read_until(process, "2 runs, about")
    while not list(tmp_path.rglob("checkpoint.pt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, code = finish(process)
    assert code == 130
    assert "interrupted: what is finished is recorded, and what was begun is in checkpoints" in said
    assert "Traceback" not in said
    assert list(tmp_path.rglob("checkpoint.pt"))
    process = start(*options, out=tmp_path)
    try:
        assert read_until(process, ": goes on in epoch ")
    finally:
        kill(process)
