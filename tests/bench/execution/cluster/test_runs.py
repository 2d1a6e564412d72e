"""Runs on a Ray cluster, as records and reporters see them."""

import os
import shlex
import signal
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch

import solvers
from bench.errors import UsageError
from bench.execution import processes
from bench.records import WALL_CLOCK_COLUMNS
from tests.bench.builders import experiment, workload
from tests.bench.execution.test_processes import SMALL, Heard, recorded

pytest.importorskip("ray")

from bench.execution.cluster import machines, tasks


class Dies:
    name = "kills its process"

    def solve(self, rhs, z0, method, n_steps):
        os.kill(os.getpid(), signal.SIGKILL)


class Breaks:
    name = "breaks its contract"

    def solve(self, rhs, z0, method, n_steps):
        raise solvers.ContractError("it breaks its contract")


DIES, BREAKS = Dies(), Breaks()


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_runs_on_a_cluster_leave_the_records_of_runs_in_processes(executor, tmp_path, two_threads):
    experiments = [
        experiment(**{**SMALL, "num_epochs": 2, "seed": seed, "gradient": gradient})
        for seed, gradient in ((0, "anode"), (0, "node"), (1, "node"))
    ]
    here = workload(tmp_path / "here", jobs=2)
    there = replace(workload(tmp_path / "there", jobs=2), executor="ray")
    processes.run_all(here, experiments, Heard())
    heard = Heard()
    device = executor.find_device("auto")
    assert device == torch.device("cpu")
    assert "a Ray cluster of 1 machine (" in executor.device_name(device)
    runs = executor.run_all(there, experiments, heard)

    assert [run.name for run in runs] == [e.name for e in experiments]
    assert heard.most == 2
    for e in experiments:
        told = [what for name, what in heard.told if name == e.name]
        assert told == ["started", 1, 2, "ok"]
        one, rows = recorded(here.folder, e.name)
        two, rows_there = recorded(there.folder, e.name)
        clock = list(WALL_CLOCK_COLUMNS)
        pd.testing.assert_frame_equal(rows.drop(columns=clock), rows_there.drop(columns=clock))
        where = (one["environment"].pop("executor"), two["environment"].pop("executor"))
        assert where == ("local", "ray")
        for content in (one, two):
            del content["environment"]["recorded_at"], content["environment"]["started_at"]
            del content["sha256"], content["epochs_sha256"]  # the clock is in them
            del content["summary"]["seconds"], content["summary"]["overhead"]
        assert two["environment"]["threads"] == 1
        assert two["environment"]["command"].endswith(shlex.join(sys.argv[1:]))
        assert one == two
    assert not list(tmp_path.rglob("checkpoint.pt*"))
    assert not list(tmp_path.rglob("seen-*"))


def test_run_whose_process_always_dies_is_tried_again_and_fails_and_the_others_go_on(
    executor, tmp_path, monkeypatch, two_threads
):
    monkeypatch.setattr(machines, "RETRIES", 1)
    place = workload(tmp_path, jobs=2)
    dies, other = experiment(**SMALL, gradient=f"{__name__}:DIES"), experiment(**SMALL)
    heard = Heard()
    died, lived = executor.run_all(place, [dies, other], heard)
    assert (died.status, lived.status) == ("failed", "ok")
    assert "it died, and at most 1 retries did not help: WorkerCrashedError" in died.reason
    assert [what for name, what in heard.told if name == dies.name] == [
        *("started", "resumed", "failed")
    ]
    assert f"{dies.name}: its process died, and another took it over" in heard.notes
    content, rows = recorded(place.folder, dies.name)
    assert content["environment"]["threads"] == 1
    assert len(rows) == 0


def test_record_that_cannot_be_written_ends_the_suite(executor, tmp_path):
    place, wrong = workload(tmp_path, jobs=2), experiment(**SMALL)
    place.folder.mkdir()
    (place.folder / wrong.name).write_text("no folder")
    with pytest.raises(UsageError, match="cannot write .*what is recorded already is kept") as told:
        executor.run_all(place, [wrong, experiment(**{**SMALL, "num_epochs": 10_000})], Heard())
    assert "\n" not in str(told.value)


def test_run_that_no_machine_can_take_is_said_so_and_not_waited_for_without_end(
    executor, tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks, "SECONDS_WITHOUT_MACHINE", 0.5)
    monkeypatch.setattr(
        *(machines.Share, "of", lambda device, jobs: machines.Share({"CPU": 64, "GPU": 0}, 1))
    )
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
def test_device_that_the_cluster_has_not_is_refused(executor, name, said):
    with pytest.raises(UsageError, match=said):
        executor.find_device(name)


def test_step_costs_are_measured_on_the_cluster(executor, tmp_path, two_threads):
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
        ([{"CPU": 2}], "cpu", 1, {"CPU": 2, "GPU": 0}, 2),
        ([{"CPU": 2}], "cpu", 2, {"CPU": 1, "GPU": 0}, 1),
        ([{"CPU": 2}], "cpu", 3, {"CPU": 0.6666, "GPU": 0}, 1),
        ([{"CPU": 64}, {"CPU": 3}, {}], "cpu", 1, {"CPU": 3, "GPU": 0}, 2),
        ([{"CPU": 64, "GPU": 4}, {"CPU": 8}], "cuda", 1, {"CPU": 16, "GPU": 1}, 2),
        ([{"CPU": 64, "GPU": 4}, {"CPU": 8, "GPU": 1}], "cuda", 2, {"CPU": 4, "GPU": 0.5}, 1),
        ([{"CPU": 4, "GPU": 1}], "cuda", 3, {"CPU": 1, "GPU": 0.3333}, 1),
        ([{"GPU": 1}], "cuda", 1, {"CPU": 0, "GPU": 1}, 1),
    ],
)
def test_so_many_runs_share_a_device_as_asked(
    monkeypatch, two_threads, there, device, jobs, resources, threads
):
    monkeypatch.setattr(machines, "machines", lambda: there)
    share = machines.Share.of(torch.device(device), jobs)
    assert share.resources == resources
    assert share.threads == threads
    assert share.is_there()
