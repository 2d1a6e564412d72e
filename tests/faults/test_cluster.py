"""Workers and machines of a Ray cluster that die, and a driver that is interrupted or dies."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.command import finish, kill, read_until, start, tables

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

pytestmark = pytest.mark.fault("ray")

TINY = "--train-images 40 --test-images 10 --batch_size 16 --network resnet4 --jobs 2"
TWO_RUNS = f"{TINY} --gradient anode,node --num_epochs"
IDENTICAL = "every experiment completes, records identical"


@pytest.fixture(autouse=True)
def cluster_of_its_own(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")


@pytest.fixture
def on_ray(tmp_path):
    """Call it with a command line: the driver is started, and killed at the end of the test."""
    drivers = []

    def begin(line):
        drivers.append(start(*line.split(), "--executor", "ray", out=tmp_path / "out"))
        return drivers[-1]

    yield begin
    for driver in drivers:
        if driver.poll() is None:
            kill(driver)


def line_of(number):
    """The command line of a process, as Linux shows it; "" if it has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def tasks(of):
    """The Ray workers below a process that run a task of ours."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    below = [of]
    for number in below:
        below += children.get(number, [])
    return [number for number in below if line_of(number).startswith("ray::run_task")]


def alive(numbers):
    return [number for number in numbers if line_of(number)]


def never_stopped(line, out):
    said, code = finish(start(*line.split(), out=out))
    assert code == 0, said
    return tables(out)


def number_resumed(out):
    runs = [json.loads(file.read_text()) for file in out.rglob("run.json")]
    assert all(run["status"] == "ok" for run in runs)
    return sum(len(run["environment"]["resumed_at"]) for run in runs)


def checkpoints(out, after=0.0):
    """The checkpoints that were written after that time."""
    found = []
    for file in out.rglob("checkpoint.pt"):
        try:
            found += [file] if file.stat().st_mtime > after else []
        except FileNotFoundError:  # its run has ended
            continue
    return found


def wait_until(happened):
    until = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("kills", "epochs"), [(1, 40), pytest.param(5, 60, marks=pytest.mark.faults)]
)
def test_kill_9_of_workers_leaves_the_records_of_runs_that_never_stopped(
    tmp_path, on_ray, kills, epochs, injected
):
    expected = never_stopped(f"{TWO_RUNS} {epochs}", tmp_path / "never")
    driver, out, at = on_ray(f"{TWO_RUNS} {epochs}"), tmp_path / "out", 0.0
    for _ in range(kills):
        wait_until(lambda at=at: len(checkpoints(out, at)) == 2)
        time.sleep(random.Random(at).uniform(0, 1))
        for worker in tasks(driver.pid):
            os.kill(worker, signal.SIGKILL)
        at = time.time()
    said, code = finish(driver)
    assert code == 0, said
    assert said.count("its process died, and another took it over") == 2 * kills
    assert "raylet" not in said
    assert number_resumed(out) == 2 * kills
    assert tables(out) == expected
    assert not list(out.rglob("checkpoint.pt*"))
    injected(2 * kills, IDENTICAL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_driver_that_ends_leaves_checkpoints_and_no_task(tmp_path, on_ray, number):
    driver = on_ray(f"{TWO_RUNS} 10000")
    wait_until(lambda: len(checkpoints(tmp_path)) == 2)
    running = tasks(driver.pid)
    assert len(running) == 2
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)  # a terminal sends it to every process
        said, code = finish(driver)
        assert code == 130, said
        assert "interrupted: finished runs are recorded, others have checkpoints" in said
        assert "Traceback" not in said
        assert not list(tmp_path.rglob("seen-*"))
    else:
        driver.kill()
        driver.communicate()
    wait_until(lambda: not alive(running))
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.faults
def test_runs_of_a_machine_that_dies_are_taken_over_by_another(
    tmp_path, on_ray, monkeypatch, injected
):
    expected = never_stopped(f"{TWO_RUNS} 60", tmp_path / "never")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first = cluster.add_node(num_cpus=2)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        driver, out = on_ray(f"{TWO_RUNS} 60"), tmp_path / "out"
        wait_until(lambda: len(checkpoints(out)) == 2)
        cluster.remove_node(first, allow_graceful=False)
        said = read_until(driver, "no machine of the cluster has what a run needs")
        cluster.add_node(num_cpus=2)
        rest, code = finish(driver)
    finally:
        cluster.shutdown()
    assert code == 0, said + rest
    assert rest.count("its process died, and another took it over") == 2
    assert number_resumed(out) == 2
    assert tables(out) == expected
    injected(1, f"its machine too: {IDENTICAL}")
