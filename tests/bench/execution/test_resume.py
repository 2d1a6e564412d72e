"""A run that was stopped continues, and its record is that of a run that never stopped."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

import models
from bench import environment, records
from bench.errors import UsageError
from bench.execution import checkpointing
from bench.execution.run import record_experiment
from bench.execution.work_queue import record_stamp
from bench.records import WALL_CLOCK_COLUMNS
from bench.training import checkpoint
from bench.training.checkpoint import Owner
from bench.training.trainer import Trainer
from tests.bench.builders import CPU, experiment, workload

SMALL = {"train_images": 20, "test_images": 10, "batch_size": 8, "probe_images": 5}
"""Steps on 8, 8 and 4 images in an epoch, and one test batch: with resnet10, RK2 and two steps
anode-auto divides a block, so that its first pass, which it observes, has other bits."""


class Killed(KeyboardInterrupt):
    """As kill -9: nothing runs after it but the release of locks."""


class Heard:
    def __init__(self):
        self.notes, self.epochs, self.resumed = [], [], 0

    def epoch_finished(self, of, row):
        self.epochs.append(row.epoch)

    def stepped(self, of, position): ...

    def run_resumed(self, of, rows):
        self.resumed += 1

    def note(self, line):
        self.notes.append(line)


def dropout(ode_block, num_classes):
    """A network that draws random numbers in training, and has a buffer outside its state_dict."""
    network = nn.Sequential(models.NETWORKS.resolve("resnet4")(ode_block, 64), nn.Dropout())
    network.append(nn.Linear(64, num_classes))
    network.register_buffer("momentary", torch.zeros(3), persistent=False)
    network.register_forward_pre_hook(drift)
    return network


def drift(network, inputs):
    network.momentary += 1
    return (inputs[0] + 1e-3 * network.momentary.sum(),)


@pytest.fixture
def at_every_step(monkeypatch):
    monkeypatch.setattr(checkpointing, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)


@pytest.fixture
def kill(monkeypatch):
    """Kill the run after it has written its checkpoint of this number; None: let it live."""
    original, calls, at = checkpoint.write, 0, None

    def write(*args):
        nonlocal calls
        calls += 1
        original(*args)
        if calls == at:
            raise Killed

    def set_at(number):
        nonlocal calls, at
        calls, at = 0, number

    monkeypatch.setattr(checkpoint, "write", write)
    return set_at


def recorded(place, of, heard=None, stamp=None):
    return record_experiment(place, of, heard or Heard(), stamp)


def stopped(place, of, kill, at=2):
    """Run and kill after the checkpoint of that number: 1 is that of the start."""
    kill(at)
    with pytest.raises(Killed):
        recorded(place, of)
    kill(None)


def table(place, of):
    """epochs.csv as it is on the disk, without wall-clock columns."""
    frame = pd.read_csv(place.folder / of.name / "epochs.csv", dtype=str, keep_default_na=False)
    return frame.drop(columns=list(WALL_CLOCK_COLUMNS)).to_csv()


def file_of(place, of):
    return place.folder / of.name / checkpoint.NAME


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": "anode"},
        {"gradient": "anode-auto", "network": "resnet10"},
        {"gradient": "node"},
        {"gradient": "anode", "network": f"{__name__}:dropout"},
    ],
    ids=["anode", "anode-auto", "node", "dropout"],
)
def test_run_that_is_killed_at_every_step_has_the_record_of_one_that_is_not(
    tmp_path, monkeypatch, at_every_step, changes
):
    of = experiment(**{**SMALL, **changes})
    never, often = workload(tmp_path / "never"), workload(tmp_path / "often")
    recorded(never, of)
    original, begun_at = checkpoint.write, None

    def write(file, owner, state):
        nonlocal begun_at
        original(file, owner, state)
        begun_at = begun_at or (state.epoch, state.steps)
        if begun_at != (state.epoch, state.steps):
            raise Killed

    monkeypatch.setattr(checkpoint, "write", write)
    for _ in range(2 * 4):  # after each of three steps and at the end of each of two epochs
        with pytest.raises(Killed):
            recorded(often, of)
        begun_at = None
    recorded(often, of)
    assert table(often, of) == table(never, of)
    content = json.loads((often.folder / of.name / "run.json").read_text())
    resumed = content["environment"]["resumed_at"]
    assert resumed == [1] * 3 + [2] * 4 + [3]
    assert sorted(file.name for file in (often.folder / of.name).iterdir()) == [
        "epochs.csv",
        "run.json",
    ]


def test_checkpoints_are_written_after_each_epoch(tmp_path, kill):
    of, place = experiment(**SMALL, num_epochs=3), workload(tmp_path)
    stopped(place, of, kill, at=3)
    heard = Heard()
    assert recorded(place, of, heard).environment["resumed_at"] == [3]
    assert (heard.epochs, heard.resumed) == ([3], 1)
    assert heard.notes == [f"{of.name}: goes on in epoch 3"]


def test_checkpoints_are_written_inside_a_long_epoch(tmp_path, kill, at_every_step):
    of, place = experiment(**SMALL), workload(tmp_path)
    stopped(place, of, kill, at=3)
    heard = Heard()
    recorded(place, of, heard)
    assert heard.notes == [f"{of.name}: goes on in epoch 1 after 2 steps"]


def test_seconds_add_up_over_resumes_and_checkpoints_are_no_part_of_a_step(
    tmp_path, kill, at_every_step, monkeypatch
):
    of, place = experiment(**SMALL, num_epochs=1), workload(tmp_path)
    original = checkpoint.write

    def slow(*args):
        time.sleep(0.3)
        original(*args)

    monkeypatch.setattr(checkpoint, "write", slow)
    stopped(place, of, kill, at=3)
    run = recorded(place, of)
    (row,) = run.epochs
    assert 2 * 0.3 < row.train_seconds < run.summary["seconds"]
    assert 3 * row.seconds_per_step < row.train_seconds - 2 * 0.3


def test_damaged_checkpoint_is_set_aside_and_the_run_starts_over(tmp_path, kill):
    of, place = experiment(**SMALL), workload(tmp_path)
    stopped(place, of, kill)
    file = file_of(place, of)
    damaged = file.read_bytes()[:5000]
    file.write_bytes(damaged)
    heard = Heard()
    run = recorded(place, of, heard)
    (line,) = heard.notes
    assert line.startswith(f"{of.name}: the checkpoint is damaged (it")
    assert line.endswith("it is now checkpoint.pt.damaged, and the run starts over")
    assert file.with_name("checkpoint.pt.damaged").read_bytes() == damaged
    assert run.environment["resumed_at"] == []
    recorded(workload(tmp_path / "never"), of)
    assert table(place, of) == table(workload(tmp_path / "never"), of)


def test_state_of_another_network_is_set_aside(tmp_path):
    of, place = experiment(**SMALL), workload(tmp_path)
    other = Trainer(experiment(**SMALL, network="resnet10"), CPU)
    owner = Owner.of(of, place.dataset.fingerprint, CPU)
    checkpoint.write(file_of(place, of), owner, other.snapshot())
    heard = Heard()
    assert recorded(place, of, heard).environment["resumed_at"] == []
    assert "does not hold this experiment's training" in heard.notes[0]


def test_checkpoint_of_other_data_is_not_used(tmp_path, kill):
    of, place = experiment(**SMALL), workload(tmp_path)
    stopped(place, of, kill)
    other = workload(tmp_path, replace(place.dataset, fingerprint="another"))
    heard = Heard()
    assert recorded(other, of, heard).environment["resumed_at"] == []
    assert "of another run (it is of another run: its data is not this one's)" in heard.notes[0]
    assert file_of(place, of).with_name("checkpoint.pt.run").exists()


def test_run_that_failed_is_tried_again_from_its_checkpoint(tmp_path, monkeypatch):
    of, place = experiment(**SMALL), workload(tmp_path)
    original = Trainer._train

    def fails(trainer, *args):
        if trainer.state.epoch == 2:
            raise RuntimeError("the device went away")
        original(trainer, *args)

    monkeypatch.setattr(Trainer, "_train", fails)
    assert recorded(place, of).status == "failed"
    monkeypatch.undo()
    run = recorded(place, of, stamp=record_stamp(place.folder / of.name))  # the next command
    assert (run.status, run.environment["resumed_at"]) == ("ok", [2])
    assert [row.epoch for row in run.epochs] == [1, 2]


def test_full_disk_stops_the_suite_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    of, place = experiment(**SMALL), workload(tmp_path)
    original, calls = os.fsync, 0

    def full(handle):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="cannot write .*checkpoint.pt .No space left"):
        recorded(place, of)
    monkeypatch.undo()
    assert [file.name for file in (place.folder / of.name).iterdir()] == [checkpoint.NAME]
    assert recorded(place, of).environment["resumed_at"] == [2]


def test_part_of_a_file_that_a_killed_process_left_is_removed(tmp_path):
    of, place = experiment(**SMALL), workload(tmp_path)
    (place.folder / of.name).mkdir(parents=True)
    (place.folder / of.name / ".checkpoint.pt-abcd.part").write_bytes(b"half")
    recorded(place, of)
    assert not list((place.folder / of.name).glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_and_leaves_a_checkpoint(tmp_path, monkeypatch, number):
    of, place = experiment(**SMALL), workload(tmp_path)
    original, steps = checkpointing.Checkpointer.on_step_end, 0

    def interrupted(self, *args):
        nonlocal steps
        steps += 1
        if steps == 2:
            signal.raise_signal(number)
        original(self, *args)

    monkeypatch.setattr(checkpointing.Checkpointer, "on_step_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recorded(place, of)
    assert steps == 2
    monkeypatch.undo()
    heard = Heard()
    recorded(place, of, heard)
    assert heard.notes == [f"{of.name}: goes on in epoch 1 after 2 steps"]


def test_other_threads_and_another_cpu_are_told_and_recorded(tmp_path, kill, monkeypatch):
    of, place = experiment(**SMALL), workload(tmp_path)
    before, threads = environment.part(CPU)["cpu"], torch.get_num_threads()
    stopped(place, of, kill)
    monkeypatch.setattr(environment, "_cpu_name", lambda: "another")
    heard = Heard()
    with environment.threads(threads + 1):
        run = recorded(place, of, heard)
    assert (run.environment["cpu"], run.environment["threads"]) == ("another", threads + 1)
    (part,) = run.environment["earlier_parts"]
    assert (part["cpu"], part["threads"]) == (before, threads)
    (name,) = records.load_runs(place.folder)["device_name"]
    assert name.startswith(f"{before}, ")
    assert ", then another, " in name
    assert heard.notes[0].endswith(
        f"epoch 2, with {threads + 1} threads (before: {threads}), on another (before: {before})"
    )


def test_results_folder_that_is_removed_stops_the_suite_in_one_line(tmp_path):
    of, place = experiment(**SMALL, num_epochs=2), workload(tmp_path)

    class Removes(Heard):
        def epoch_finished(self, experiment, row):
            shutil.rmtree(place.folder)

    with pytest.raises(UsageError, match=f"the folder {place.folder} is gone") as error:
        recorded(place, of, Removes())
    assert "\n" not in str(error.value)
    assert not place.folder.exists()
