"""Runs on a Ray cluster of one machine with two CPUs, as records and reporters see them."""

import os
import signal
from dataclasses import replace

import pytest
import torch

import solvers
from bench import environment
from bench.errors import UsageError
from bench.execution import processes
from bench.records import locks
from tests.bench.builders import experiment, workload
from tests.bench.execution.test_processes import SMALL, Heard, recorded
from tests.faults.command import tables

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

from bench.execution import ray_cluster


class Dies:
    name = "kills its process"

    def solve(self, rhs, z0, method, n_steps):
        os.kill(os.getpid(), signal.SIGKILL)


class Breaks:
    name = "breaks its contract"

    def solve(self, rhs, z0, method, n_steps):
        raise solvers.ContractError("it breaks its contract")


DIES, BREAKS = Dies(), Breaks()


@pytest.fixture(scope="module")
def executor():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        try:
            with environment.threads(2), ray_cluster.connected(print) as found:
                yield found
        finally:
            cluster.shutdown()


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_LOOKS", 0.1)


def test_runs_on_a_cluster_leave_the_records_of_runs_in_processes(executor, tmp_path):
    experiments = [
        experiment(**{**SMALL, "num_epochs": 2, "gradient": gradient})
        for gradient in ("anode", "node")
    ]
    here = workload(tmp_path / "here", jobs=2)
    there = replace(workload(tmp_path / "there", jobs=2), executor="ray")
    processes.run_all(here, experiments, Heard())
    heard = Heard()
    assert executor.find_device("auto") == torch.device("cpu")
    runs = executor.run_all(there, experiments, heard)
    assert [run.name for run in runs] == [e.name for e in experiments]
    for e in experiments:
        assert [what for name, what in heard.told if name == e.name] == ["started", 1, 2, "ok"]
        content, _ = recorded(there.folder, e.name)
        where = content["environment"]
        assert (where["executor"], where["jobs"], where["threads"]) == ("ray", 2, 1)
    assert tables(there.folder) == tables(here.folder)
    assert not list(tmp_path.rglob("checkpoint.pt*"))
    assert not list(tmp_path.rglob("seen-*"))


def test_run_whose_process_always_dies_fails_and_the_others_go_on(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "RETRIES", 1)
    place = workload(tmp_path, jobs=2)
    dies, other = experiment(**SMALL, gradient=f"{__name__}:DIES"), experiment(**SMALL)
    died, lived = executor.run_all(place, [dies, other], Heard())
    assert (died.status, lived.status) == ("failed", "ok")
    assert "it died, and at most 1 retries did not help: WorkerCrashedError" in died.reason
    content, rows = recorded(place.folder, dies.name)
    assert content["status"] == "failed"
    assert len(rows) == 0


def test_machine_that_does_not_see_the_results_folder_stops_the_suite(executor, tmp_path):
    place = workload(tmp_path)
    hidden = ray_cluster._Tasks(place, print)
    with hidden:
        hidden._token.unlink()
        hidden.start(experiment(**SMALL), None)
        with pytest.raises(UsageError, match=f"does not see {place.folder}: choose an --out"):
            list(hidden.ended(600))


def test_record_that_cannot_be_written_stops_the_suite(executor, tmp_path):
    place, wrong = workload(tmp_path, jobs=2), experiment(**SMALL)
    (place.folder / wrong.name / "epochs.csv").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write .*what is recorded already is kept") as told:
        executor.run_all(place, [wrong, experiment(**{**SMALL, "num_epochs": 10_000})], Heard())
    assert "\n" not in str(told.value)


def test_run_that_fits_no_machine_is_an_error_after_a_while(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "SECONDS_WITHOUT_MACHINE", 0.5)
    too_much = ray_cluster.Share({"CPU": 64, "GPU": 0}, 1)
    monkeypatch.setattr(ray_cluster.Share, "of", lambda device, jobs: too_much)
    heard = Heard()
    with pytest.raises(UsageError, match=r"no machine .* needs \(64 CPU, 0 GPU\): start one"):
        executor.run_all(workload(tmp_path), [experiment(**SMALL)], heard)
    assert len(heard.notes) == 1
    assert heard.told == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuda", "no machine of the cluster has a GPU for a run: start one that has"),
        ("cuda:1", "--device cuda:1: with --executor ray choose auto, cpu or cuda"),
    ],
)
def test_device_that_the_cluster_does_not_have_is_refused(executor, name, said):
    with pytest.raises(UsageError, match=said):
        executor.find_device(name)


def test_step_costs_are_measured_on_the_cluster(executor, tmp_path):
    found = executor.measure_step_costs(workload(tmp_path), [experiment(**SMALL)])
    assert [m.quantity for m in found] == [
        *("seconds_per_step", "peak_memory", "nfe_forward", "nfe_backward")
    ]
    breaks = experiment(**SMALL, gradient=f"{__name__}:BREAKS")
    with pytest.raises(UsageError, match="^it breaks its contract$"):
        executor.measure_step_costs(workload(tmp_path), [breaks])


@pytest.mark.parametrize(
    ("there", "device", "jobs", "resources", "threads"),
    [
        ([{"CPU": 2}], "cpu", 2, {"CPU": 1, "GPU": 0}, 1),
        ([{"CPU": 2}], "cpu", 3, {"CPU": 0.6666, "GPU": 0}, 1),
        ([{"CPU": 64}, {"CPU": 3}, {}], "cpu", 1, {"CPU": 3, "GPU": 0}, 2),
        ([{"CPU": 64, "GPU": 4}, {"CPU": 8}], "cuda", 1, {"CPU": 16, "GPU": 1}, 2),
        ([{"CPU": 64, "GPU": 4}, {"CPU": 8, "GPU": 1}], "cuda", 2, {"CPU": 4, "GPU": 0.5}, 1),
        ([{"GPU": 1}], "cuda", 1, {"CPU": 0, "GPU": 1}, 1),
    ],
)
def test_jobs_share_a_device(monkeypatch, there, device, jobs, resources, threads):
    monkeypatch.setattr(ray_cluster, "machines", lambda: there)
    with environment.threads(2):
        share = ray_cluster.Share.of(torch.device(device), jobs)
    assert share == ray_cluster.Share(resources, threads)
    assert share.fits()
