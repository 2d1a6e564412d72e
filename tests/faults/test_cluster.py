"""Workers and machines of a Ray cluster that die, and a driver that is interrupted or dies."""

import json
import os
import random
import signal
import time

import pytest

from tests.bench.execution.cluster.nodes import alive, descendants, running
from tests.faults.command import finish, kill, read_until, start, tables

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

pytestmark = pytest.mark.fault("ray")

TINY = "--train-images 40 --test-images 10 --batch_size 16 --network resnet4 --jobs 2"
IDENTICAL = "every experiment completes, records identical"
FIVE_TIMES = pytest.param(5, 60, marks=pytest.mark.faults)


@pytest.fixture(autouse=True)
def cluster_of_its_own(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")


def on_ray(line, out):
    return start(*line.split(), "--executor", "ray", out=out)


def end(driver):
    """It and its cluster, where something went wrong."""
    if driver.poll() is None:
        kill(driver)


def resumed(out):
    runs = [json.loads(file.read_text()) for file in out.rglob("run.json")]
    assert all(run["status"] == "ok" for run in runs)
    return sum(len(run["environment"]["resumed_at"]) for run in runs)


def kill_all_in_mid_run(driver, out, after):
    """Kill -9 both workers, once each has written a checkpoint after that time; returns when."""
    wait_until(lambda: len([f for f in out.rglob("checkpoint.pt") if changed(f) > after]) == 2)
    time.sleep(random.Random(after).uniform(0, 1))
    for worker in running(driver.pid):
        os.kill(worker, signal.SIGKILL)
    return time.time()


def changed(file):
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # its run has ended
        return 0.0


def wait_until(happened):
    until = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(("kills", "epochs"), [(1, 40), FIVE_TIMES])
def test_kill_9_of_workers_leaves_the_records_of_processes_that_nobody_killed(
    tmp_path, kills, epochs, injected
):
    line = f"{TINY} --gradient anode,node --num_epochs {epochs}"
    said, code = finish(start(*line.split(), out=tmp_path / "never"))
    assert code == 0, said
    out = tmp_path / "often"
    driver = on_ray(line, out)
    try:
        at = 0.0
        for _ in range(kills):
            at = kill_all_in_mid_run(driver, out, at)
        said, code = finish(driver)
    finally:
        end(driver)
    assert code == 0, said
    assert said.count("its process died, and another took it over") == 2 * kills
    assert "raylet" not in said
    assert resumed(out) == 2 * kills
    assert tables(out) == tables(tmp_path / "never")
    assert not list(out.rglob("checkpoint.pt*"))
    injected(2 * kills, IDENTICAL)


def test_ctrl_c_leaves_checkpoints_and_no_process(tmp_path):
    driver = on_ray(f"{TINY} --gradient anode,node --num_epochs 10000", tmp_path)
    try:
        wait_until(lambda: len(list(tmp_path.rglob("checkpoint.pt"))) == 2)
        processes = descendants(driver.pid)
        os.killpg(driver.pid, signal.SIGINT)  # a terminal sends it to all
        said, code = finish(driver)
    finally:
        end(driver)
    assert code == 130, said
    assert "interrupted: finished runs are recorded, others have checkpoints" in said
    assert "Traceback" not in said
    wait_until(lambda: not alive(processes))
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 2
    assert not list(tmp_path.rglob("seen-*"))


@pytest.mark.faults
def test_driver_that_is_killed_leaves_no_task(tmp_path):
    driver = on_ray(f"{TINY} --gradient anode,node --num_epochs 10000", tmp_path)
    wait_until(lambda: len(list(tmp_path.rglob("checkpoint.pt"))) == 2)
    tasks = running(driver.pid)
    assert len(tasks) == 2
    driver.kill()
    driver.communicate()
    wait_until(lambda: not alive(tasks))


@pytest.mark.faults
def test_machine_that_dies_in_mid_run_has_its_runs_taken_over_by_another(
    tmp_path, monkeypatch, injected
):
    line = f"{TINY} --gradient anode,node --num_epochs 60"
    said, code = finish(start(*line.split(), out=tmp_path / "never"))
    assert code == 0, said
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first = cluster.add_node(num_cpus=2)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        out = tmp_path / "often"
        driver = on_ray(line, out)
        try:
            wait_until(lambda: len(list(out.rglob("checkpoint.pt"))) == 2)
            cluster.remove_node(first, allow_graceful=False)
            told = read_until(driver, "no machine of the cluster has what a run needs")
            cluster.add_node(num_cpus=2)
            said, code = finish(driver)
        finally:
            end(driver)
    finally:
        cluster.shutdown()
    assert code == 0, told + said
    assert said.count("its process died, and another took it over") == 2
    assert resumed(out) == 2
    assert tables(out) == tables(tmp_path / "never")
    injected(1, f"its machine too: {IDENTICAL}")
