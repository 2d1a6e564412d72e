"""Commands that are killed or interrupted, and given again."""

import json
import os
import random
import signal
import time

import pytest

from tests.faults.command import finish, kill, read_until, start, tables

TINY = "--train-images 40 --test-images 10 --batch_size 16"
ONE = f"{TINY} --network resnet10 --gradient anode-auto --num_epochs 8"
SMOKE = (
    f"{TINY} --num_epochs 3 --network alexnet,resnet4,resnet10,squeezenext "
    "--gradient baseline,backprop,anode,anode-auto,node"
)


def finished(line, out):
    said, code = finish(start(*line.split(), out=out))
    assert code == 0, said
    return tables(out)


def state(out):
    """The records, and the names of runs that have a checkpoint and no record."""
    recorded = {file.parent.name: file.read_bytes() for file in out.rglob("run.json")}
    begun = {file.parent.name for file in out.rglob("checkpoint.pt")} - {*recorded}
    return recorded, begun


def killed(line, out, moments):
    """Kill the command at a random moment of its training; return the state of its folder then, or
    None if it ended before."""
    process = start(*line.split(), out=out)
    said = read_until(process, " run")  # the number of runs left
    time.sleep(moments.uniform(0, 2))
    if process.poll() is not None:
        rest, code = finish(process)
        assert code == 0, said + rest
        return None
    assert "Traceback" not in said + kill(process)
    return state(out)


@pytest.mark.fault("kill")
@pytest.mark.faults
@pytest.mark.parametrize(
    ("line", "number"), [(ONE, 2), (f"{ONE} --jobs 2", 2), (SMOKE, 25)], ids=["1", "2 jobs", "all"]
)
def test_kill_9_at_random_moments_leaves_the_records_of_runs_that_never_stopped(
    tmp_path, line, number, injected
):
    expected, moments = (
        finished(line.removesuffix(" --jobs 2"), tmp_path / "never"),
        random.Random(0),
    )
    for i in range(number):
        out, kills = tmp_path / str(i), []
        while len(kills) < number and (found := killed(line, out, moments)):
            kills.append(found)
        assert finished(line, out) == expected
        assert not [file for name in ("checkpoint.pt*", "*.part") for file in out.rglob(name)]
        last, _ = state(out)
        assert all(recorded.items() <= last.items() for recorded, _ in kills)  # none run again
        begun = [name for _, names in kills for name in names]
        resumed = {name: json.loads(run)["environment"]["resumed_at"] for name, run in last.items()}
        assert {name for name, epochs in resumed.items() if epochs} == {*begun}
        assert all(len(epochs) <= begun.count(name) for name, epochs in resumed.items())
        injected(len(kills), "all records identical to those of a command that never stopped")
        number -= len(kills)
        if number <= 0:
            return
    raise AssertionError(f"{number} of the kills came too late")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGINT, 2), (signal.SIGINT, 1), (signal.SIGTERM, 2)]
)
def test_stopped_command_leaves_checkpoints_and_no_process_and_the_same_command_goes_on(
    tmp_path, number, jobs
):
    line = f"{TINY} --network resnet4 --gradient anode,node --num_epochs 40 --jobs {jobs}"
    process = start(*line.split(), out=tmp_path)
    read_until(process, "2 runs, about")
    while not list(tmp_path.rglob("checkpoint.pt")):
        time.sleep(0.05)
    if number == signal.SIGINT:  # a terminal sends it to every process
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said, code = finish(process)  # its pipe closes when its last process has ended
    assert code == (130 if number == signal.SIGINT else -number), said
    assert ("interrupted: finished runs are recorded, others have checkpoints" in said) == (
        number == signal.SIGINT
    )
    assert "Traceback" not in said
    assert list(tmp_path.rglob("checkpoint.pt"))
    assert not list(tmp_path.rglob("*.part"))
    process = start(*line.split(), out=tmp_path)
    try:
        assert read_until(process, ": goes on in epoch ")
    finally:
        kill(process)
