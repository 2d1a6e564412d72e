"""Several commands that run at once on one folder of results."""

import re

import pytest

from bench import records
from tests.faults.command import finish, start, tables

LINE = (
    "--train-images 20 --test-images 10 --batch_size 10 --num_epochs 2 --network resnet4 "
    "--gradient baseline,anode,node"
)


@pytest.mark.fault("shared")
@pytest.mark.faults
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_on_one_folder_run_each_experiment_once(tmp_path, processes, injected):
    found = []
    for i in range(10):
        out = tmp_path / str(i)
        ended = [finish(one) for one in [start(*LINE.split(), out=out) for _ in range(processes)]]
        assert all(code == 0 for _, code in ended), ended
        said = "".join(text for text, _ in ended)
        assert "Traceback" not in said
        names = [file.parent.name for file in out.rglob("run.json")]
        assert len(names) == 3
        for name in names:
            ends = len(re.findall(rf"\] {name}: test accuracy", said))
            # A process also shows the end of a run that it waited for, and says so.
            assert ends - said.count(f"{name}: another process has run it") == 1
        assert len(records.load_measurements(out / "smoke")) == 3 * 4
        found.append(tables(out))
        assert found[i] == found[0]
        injected(1, f"{processes} processes: each experiment run once, identical records")
