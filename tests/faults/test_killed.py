"""A command that is killed, and given again."""

import json
import random
import signal
import time
from dataclasses import dataclass

import pytest

from tests.faults.command import finish, kill, read_until, start, tables

TINY = "--train-images 40 --test-images 10 --batch_size 16"
SMOKE = (
    f"{TINY} --num_epochs 3 --network alexnet,resnet4,resnet10,squeezenext "
    "--gradient baseline,backprop,anode,anode-auto,node"
)


@dataclass
class Killed:
    """What was there when a command was killed: the records, and which runs had a checkpoint and
    no record."""

    records: dict[str, bytes]
    begun: set[str]

    @classmethod
    def found(cls, out):
        recorded = {file.parent.name: file.read_bytes() for file in out.rglob("run.json")}
        begun = {file.parent.name for file in out.rglob("checkpoint.pt")} - {*recorded}
        return cls(recorded, begun)


def killed(line, out, moments, seconds):
    """Give the command and kill it at a random moment after it began to train; None when it ended
    before."""
    process = start(*line.split(), out=out)
    said = read_until(process, " run")  # how many are left, or that none is
    time.sleep(moments.uniform(0, seconds))
    if process.poll() is not None:
        rest, code = finish(process)
        assert code == 0, said + rest
        return None
    said += kill(process)
    assert "Traceback" not in said
    return Killed.found(out)


def ends_as_if_never_killed(line, out, expected, kills):
    """The command is given once more: its records are those of a run that never stopped, what was
    recorded when it was killed was not run again, and what was begun went on."""
    said, code = finish(start(*line.split(), out=out))
    assert code == 0, said
    assert tables(out) == expected
    assert not [file for pattern in ("checkpoint.pt*", "*.part") for file in out.rglob(pattern)]
    last = Killed.found(out).records
    for one in kills:
        assert one.records.items() <= last.items()
    resumed = {name: json.loads(run)["environment"]["resumed_at"] for name, run in last.items()}
    begun = [name for one in kills for name in one.begun]
    assert {name for name, epochs in resumed.items() if epochs} == {*begun}
    assert all(len(epochs) <= begun.count(name) for name, epochs in resumed.items())


def never_stopped(line, out):
    said, code = finish(start(*line.split(), out=out))
    assert code == 0, said
    return tables(out)


BOTH = [1, pytest.param(2, marks=pytest.mark.faults)]
IDENTICAL = "all records identical to those of a command that never stopped, none lost or run twice"


@pytest.mark.fault("kill")
@pytest.mark.parametrize("jobs", BOTH)
def test_kill_9_at_random_moments_leaves_the_record_of_a_run_that_never_stopped(
    tmp_path, jobs, injected
):
    line = f"{TINY} --network resnet10 --gradient anode-auto --num_epochs 8"
    expected = never_stopped(line, tmp_path / "never")
    line += f" --jobs {jobs}" if jobs > 1 else ""
    moments, out = random.Random(jobs), tmp_path / "often"
    kills = [one for _ in range(2) if (one := killed(line, out, moments, seconds=2))]
    ends_as_if_never_killed(line, out, expected, kills)
    injected(len(kills), IDENTICAL)


@pytest.mark.faults
@pytest.mark.fault("kill")
def test_kill_9_25_times_over_networks_and_gradients(tmp_path, injected):
    expected = never_stopped(SMOKE, tmp_path / "never")
    moments = random.Random(0)
    left = 25
    for i in range(25):
        out, kills = tmp_path / str(i), []
        while left > len(kills) and (one := killed(SMOKE, out, moments, seconds=2)):
            kills.append(one)
        ends_as_if_never_killed(SMOKE, out, expected, kills)
        injected(len(kills), IDENTICAL)
        left -= len(kills)
        if not left:
            return
    raise AssertionError(f"{left} of the kills came too late")


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
    assert "interrupted: finished runs are recorded, others have checkpoints" in said
    assert "Traceback" not in said
    assert list(tmp_path.rglob("checkpoint.pt"))
    process = start(*options, out=tmp_path)
    try:
        assert read_until(process, ": goes on in epoch ")
    finally:
        kill(process)
