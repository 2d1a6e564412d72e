"""Runs on a Ray cluster of one machine with two CPUs, as records and reporters see them."""

import json
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
from tests.bench.builders import ONE_EPOCH, Heard, experiment, workload
from tests.faults.command import tables

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

from bench.execution import ray_cluster

ONE = experiment(**ONE_EPOCH)


class Wrong:
    """A gradient method that never solves."""

    def __init__(self, name, solve):
        self.name, self._solve = name, solve

    def solve(self, rhs, z0, method, n_steps):
        return self._solve()


def breaks():
    raise solvers.ContractError("it breaks its contract")


DIES = Wrong("kills its process", lambda: os.kill(os.getpid(), signal.SIGKILL))
BREAKS = Wrong("breaks its contract", breaks)


@pytest.fixture(scope="module")
def executor():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        patch.setattr(locks, "SECONDS_BETWEEN_LOOKS", 0.1)
        try:
            with environment.threads(2), ray_cluster.connected(print) as found:
                yield found
        finally:
            cluster.shutdown()


def run_json(place, of):
    return json.loads((place.folder / of.name / "run.json").read_text())


def test_runs_on_a_cluster_leave_the_records_of_runs_in_processes(executor, tmp_path):
    experiments = [
        experiment(**{**ONE_EPOCH, "num_epochs": 2}, gradient=gradient)
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
        assert heard.events(e) == ["started", 1, 2, "ok"]
        where = run_json(there, e)["environment"]
        assert (where["executor"], where["jobs"], where["threads"]) == ("ray", 2, 1)
    assert tables(there.folder) == tables(here.folder)
    assert not [*tmp_path.rglob("checkpoint.pt*"), *tmp_path.rglob("seen-*")]


def test_run_whose_process_always_dies_fails_and_the_others_go_on(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "RETRIES", 1)
    place, dies = workload(tmp_path, jobs=2), experiment(**ONE_EPOCH, gradient=f"{__name__}:DIES")
    died, lived = executor.run_all(place, [dies, ONE], Heard())
    assert (died.status, lived.status) == ("failed", "ok")
    assert "it died, and at most 1 retries did not help: WorkerCrashedError" in died.reason
    assert run_json(place, dies)["status"] == "failed"


def test_machine_that_does_not_see_the_results_folder_stops_the_suite(executor, tmp_path):
    place = workload(tmp_path)
    hidden = ray_cluster._Tasks(place, print)
    with hidden:
        hidden._token.unlink()
        hidden.start(ONE, None)
        with pytest.raises(UsageError, match=f"does not see {place.folder}: choose an --out"):
            list(hidden.ended(600))


def test_record_that_cannot_be_written_stops_the_suite(executor, tmp_path):
    place, endless = workload(tmp_path, jobs=2), experiment(**{**ONE_EPOCH, "num_epochs": 10_000})
    (place.folder / ONE.name / "epochs.csv").mkdir(parents=True)
    with pytest.raises(
        UsageError, match="cannot write .*what is recorded already is kept"
    ) as error:
        executor.run_all(place, [ONE, endless], Heard())
    assert "\n" not in str(error.value)


def test_run_that_fits_no_machine_is_an_error_after_a_while(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "SECONDS_WITHOUT_MACHINE", 0.5)
    too_much = ray_cluster.Share({"CPU": 64, "GPU": 0}, 1)
    monkeypatch.setattr(ray_cluster.Share, "of", lambda device, jobs: too_much)
    heard = Heard()
    with pytest.raises(UsageError, match=r"no machine .* needs \(64 CPU, 0 GPU\): start one"):
        executor.run_all(workload(tmp_path), [ONE], heard)
    assert (len(heard.notes), heard.told) == (1, [])


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
    found = executor.measure_step_costs(workload(tmp_path), [ONE])
    quantities = ["seconds_per_step", "peak_memory", "nfe_forward", "nfe_backward"]
    assert [m.quantity for m in found] == quantities
    with pytest.raises(UsageError, match="^it breaks its contract$"):
        executor.measure_step_costs(
            workload(tmp_path), [replace(ONE, gradient=f"{__name__}:BREAKS")]
        )


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
