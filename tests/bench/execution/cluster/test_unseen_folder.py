"""A machine that does not see the folder of results."""

import json
import threading
import time

import pytest

import run_bench
from bench.execution.worker import Busy
from bench.records import locks
from tests.bench.builders import experiment, workload
from tests.bench.execution.cluster.nodes import kill_one
from tests.faults.command import tables

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

from bench.execution.cluster.desk import Desk

LINE = (
    "--train-images 40 --test-images 10 --batch_size 16 --network resnet4 --num_epochs 12 "
    "--gradient anode,mine:MINE --jobs 2"
)
MINE = """
import solvers

class Mine:
    name = "mine"

    def solve(self, rhs, z0, method, n_steps):
        return solvers.odeint(rhs, z0, method=method, n_steps=n_steps, gradient="node")

MINE = Mine()
"""
ANOTHER_FOR_EACH_FOLDER = "/proc/self/cwd/results"
"""A path that means another folder in a process that works in another folder."""


@pytest.fixture
def two_machines(tmp_path, monkeypatch):
    """The driver's, on which nothing runs, and another; each works in a folder of its own."""
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        monkeypatch.chdir(tmp_path / "there")
        cluster.add_node(num_cpus=2)
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield tmp_path / "here", tmp_path / "there"
    finally:
        cluster.shutdown()


def test_machine_that_does_not_see_the_folder_sends_checkpoints_and_records(
    two_machines, monkeypatch, capsys
):
    here, there = two_machines
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (here / "mine.py").write_text(MINE)
    assert run_bench.main([*LINE.split(), "--out", "processes"]) == 0
    capsys.readouterr()

    def kill_when_checkpoints_are_here():
        until = time.monotonic() + 120
        while len([*here.glob("results/**/checkpoint.pt")]) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        kill_one()

    killer = threading.Thread(target=kill_when_checkpoints_are_here)
    killer.start()
    out = ["--out", ANOTHER_FOR_EACH_FOLDER, "--executor", "ray"]
    assert run_bench.main([*LINE.split(), *out]) == 0
    killer.join()
    said = capsys.readouterr().out
    assert said.count("its process died, and another took it over") == 1
    assert said.count(": goes on in epoch ") == 1
    assert tables(here / "results") == tables(here / "processes")
    assert len(tables(here / "results")) == 2
    contents = [json.loads(file.read_text()) for file in here.glob("results/**/run.json")]
    assert sorted(len(c["environment"]["resumed_at"]) for c in contents) == [0, 1]
    assert not list(here.glob("results/**/checkpoint.pt*"))
    assert not list(there.rglob("*.json"))
    assert not list(there.rglob("*.csv"))


def test_desk_locks_what_it_begins_until_it_ends(tmp_path):
    place, one = workload(tmp_path), experiment()
    desk = Desk(place)
    with locks.claim(place.folder, one.name):
        assert isinstance(desk.begin(one, None), Busy)
    assert desk.begin(one, None) is None
    assert not locks.is_free(place.folder, one.name)
    assert desk.keep(one, "checkpoint.pt", b"first") is None
    assert desk.begin(one, None) == b"first"  # for the one that goes on when that has died
    desk.end(one)
    desk.end(one)
    assert locks.is_free(place.folder, one.name)


def test_desk_says_what_it_cannot_keep(tmp_path):
    place, one = workload(tmp_path), experiment()
    desk = Desk(place)
    assert desk.begin(one, None) is None
    (place.folder / one.name).write_text("no folder")
    assert "cannot write" in str(desk.keep(one, "checkpoint.pt", b"first"))
    desk.end(one)


def test_desk_gives_its_messages_once(tmp_path):
    desk = Desk(workload(tmp_path))
    desk.tell(experiment(), Busy())
    assert desk.messages() == [(experiment(), Busy())]
    assert desk.messages() == []
