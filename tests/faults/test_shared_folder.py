"""Several commands on one folder."""

import re

import pytest

from bench import records
from tests.faults.command import finish, start, tables

pytestmark = pytest.mark.fault("shared")

LINE = (
    "--train-images 20 --test-images 10 --batch_size 10 --num_epochs 2 --network resnet4 "
    "--gradient baseline,backprop,anode,node"
)


def shared(out, processes):
    """Give the command so often at once; how often each experiment was run."""
    commands = [start(*LINE.split(), out=out) for _ in range(processes)]
    ended = [finish(command) for command in commands]
    assert all(code == 0 for _, code in ended), ended
    said = "".join(text for text, _ in ended)
    assert "Traceback" not in said
    names = [file.parent.name for file in out.rglob("run.json")]
    assert len(names) == 4
    # A process says how a run ended that it waited for, too, and then that it was another's.
    return [
        len(re.findall(rf"\] {name}: test accuracy", said))
        - said.count(f"{name}: another process has run it")
        for name in names
    ]


def test_two_processes_on_one_folder_run_each_experiment_once(tmp_path, injected):
    assert shared(tmp_path, 2) == [1] * 4
    assert len(records.load_measurements(tmp_path / "smoke")) == 4 * 4
    injected(1, "2 processes: each of 4 experiments run once")


@pytest.mark.faults
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_on_one_folder_run_each_experiment_once_10_times(tmp_path, processes, injected):
    found = []
    for i in range(10):
        assert shared(tmp_path / str(i), processes) == [1] * 4
        found.append(tables(tmp_path / str(i)))
        assert found[i] == found[0]
        assert len(records.load_measurements(tmp_path / str(i) / "smoke")) == 4 * 4
        injected(1, f"{processes} processes: each of 4 experiments run once, identical records")
