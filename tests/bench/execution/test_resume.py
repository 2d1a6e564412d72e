"""A run that stopped goes on, and its record is that of one that never did."""

import json
import math
import os
import shutil
import signal
import time

import pandas as pd
import pytest
import torch
from torch import nn

import models
from bench import environment, records
from bench.errors import UsageError
from bench.execution import checkpointing
from bench.execution.run import record_experiment
from bench.records import WALL_CLOCK_COLUMNS
from bench.training import checkpoint
from bench.training.trainer import Trainer
from tests.bench.builders import CPU, experiment, workload

SMALL = {"train_images": 20, "test_images": 10, "batch_size": 8, "probe_images": 5}
"""Steps on 8, 8 and 4 images in an epoch, and one batch to test: with resnet10, RK2 and two steps
anode-auto divides a block, so that its first pass, which it watches, has other bits."""

KILLS = (2, 2, 2, 3)
"""Before which of its checkpoints a process is killed, to have an epoch go on once after each of
its steps and once at its start. The third is after the test's batch, which is no step more."""


class Killed(KeyboardInterrupt):
    """Nothing is done after it, as after kill -9, but to let go of locks."""


class Heard:
    def __init__(self):
        self.notes, self.epochs, self.resumed = [], [], 0

    def epoch_finished(self, of, row):
        self.epochs.append(row.epoch)

    def run_resumed(self, of, course):
        self.resumed += 1

    def note(self, line):
        self.notes.append(line)


def dropout(ode_block, num_classes):
    """A network that draws random numbers in training, and has a buffer that no state has."""
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
    """Kill the run before it writes its checkpoint of this number; None: let it live."""
    original, calls, at = checkpoint.write, 0, None

    def write(*args):
        nonlocal calls
        calls += 1
        if calls == at:
            raise Killed
        original(*args)

    def set_at(number):
        nonlocal calls, at
        calls, at = 0, number

    monkeypatch.setattr(checkpoint, "write", write)
    return set_at


def recorded(place, of, heard=None):
    return record_experiment(place, of, heard or Heard(), None)


def table(place, of):
    """epochs.csv as it is on the disk, wall clock aside."""
    frame = pd.read_csv(place.folder / of.name / "epochs.csv", dtype=str, keep_default_na=False)
    return frame.drop(columns=list(WALL_CLOCK_COLUMNS)).to_csv()


def file_of(place, of):
    return place.folder / of.name / checkpoint.NAME


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": "backprop"},
        {"gradient": "anode"},
        {"gradient": "anode-auto", "network": "resnet10"},
        {"gradient": "node"},
        {"gradient": "anode", "network": f"{__name__}:dropout"},
    ],
    ids=["backprop", "anode", "anode-auto", "node", "dropout"],
)
def test_run_that_is_killed_at_every_step_has_the_record_of_one_that_is_not(
    tmp_path, kill, at_every_step, changes
):
    of = experiment(**{**SMALL, **changes})
    never, often = workload(tmp_path / "never"), workload(tmp_path / "often")
    recorded(never, of)
    for at in (KILLS * of.num_epochs)[:-1]:
        kill(at)
        with pytest.raises(Killed):
            recorded(often, of)
    kill(None)
    run = recorded(often, of)
    assert table(often, of) == table(never, of)
    assert run.environment["resumed_at"] == [1] * 3 + [2] * 4
    content = json.loads((often.folder / of.name / "run.json").read_text())
    assert content["environment"]["resumed_at"] == run.environment["resumed_at"]
    assert sorted(file.name for file in (often.folder / of.name).iterdir()) == [
        "epochs.csv",
        "run.json",
    ]


def test_without_a_long_epoch_there_is_a_checkpoint_after_each(tmp_path, kill):
    of, place = experiment(**SMALL, num_epochs=3), workload(tmp_path)
    kill(3)
    with pytest.raises(Killed):
        recorded(place, of)
    kill(None)
    heard = Heard()
    assert recorded(place, of, heard).environment["resumed_at"] == [3]
    assert (heard.epochs, heard.resumed) == ([3], 1)
    assert heard.notes == [f"{of.name}: goes on in epoch 3"]


def test_run_is_checkpointed_inside_of_a_long_epoch(tmp_path, kill, at_every_step):
    of, place = experiment(**SMALL), workload(tmp_path)
    kill(3)
    with pytest.raises(Killed):
        recorded(place, of)
    heard = Heard()
    kill(None)
    recorded(place, of, heard)
    assert heard.notes == [f"{of.name}: goes on in epoch 1 after 2 steps"]


def test_seconds_are_those_of_all_parts(tmp_path, kill, at_every_step, monkeypatch):
    of, place = experiment(**SMALL, num_epochs=1), workload(tmp_path)
    original = Trainer._train

    def slow(trainer, data, between):
        time.sleep(0.5)
        original(trainer, data, between)

    monkeypatch.setattr(Trainer, "_train", slow)
    kill(2)
    with pytest.raises(Killed):
        recorded(place, of)
    kill(None)
    run = recorded(place, of)
    (row,) = run.epochs
    assert 1.0 < row.train_seconds < run.summary["seconds"]
    # What slept was no step, however slow the steps are.
    steps = math.ceil(of.train_images / of.batch_size)
    assert row.seconds_per_step * steps < row.train_seconds - 0.9


def test_checkpoint_belongs_to_the_overhead_of_an_epoch_and_not_to_its_steps(
    tmp_path, monkeypatch, at_every_step
):
    original = checkpoint.write

    def slow(*args):
        time.sleep(0.3)
        original(*args)

    monkeypatch.setattr(checkpoint, "write", slow)
    first, second = recorded(workload(tmp_path), experiment(**SMALL)).epochs
    assert first.train_seconds > 3 * 0.3
    assert second.train_seconds > 4 * 0.3  # that of the first epoch's end among them
    for epoch, written in ((first, 3), (second, 4)):
        assert 2 * epoch.seconds_per_step <= epoch.train_seconds - written * 0.3


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    ],
    ids=["emptied", "truncated", "flipped"],
)
def test_damaged_checkpoint_is_set_aside_and_the_run_starts_over(tmp_path, kill, damage):
    of, place = experiment(**SMALL), workload(tmp_path)
    kill(2)
    with pytest.raises(Killed):
        recorded(place, of)
    file = file_of(place, of)
    file.write_bytes(damage(file.read_bytes()))
    damaged, heard = file.read_bytes(), Heard()
    kill(None)
    run = recorded(place, of, heard)
    (line,) = heard.notes
    assert line.startswith(f"{of.name}: the checkpoint is damaged (it")
    assert line.endswith("it is now checkpoint.pt.damaged, and the run starts over")
    assert file.with_name("checkpoint.pt.damaged").read_bytes() == damaged
    assert run.environment["resumed_at"] == []
    recorded(workload(tmp_path / "never"), of)
    assert table(place, of) == table(workload(tmp_path / "never"), of)


def test_checkpoint_of_another_network_is_set_aside(tmp_path):
    of, place = experiment(**SMALL), workload(tmp_path)
    other = Trainer(experiment(**SMALL, network="resnet10"), CPU)
    owner = checkpoint.Owner.of(of, place.dataset.fingerprint, CPU)
    checkpoint.write(
        file_of(place, of), checkpoint.Checkpoint(owner, other.state(), (), None, 1, 1.0)
    )
    heard = Heard()
    assert recorded(place, of, heard).environment["resumed_at"] == []
    assert "does not hold what a training is" in heard.notes[0]


def test_checkpoint_of_other_data_is_not_used(tmp_path, kill):
    of, place = experiment(**SMALL), workload(tmp_path)
    kill(2)
    with pytest.raises(Killed):
        recorded(place, of)
    kill(None)
    other = workload(tmp_path, torch_dataset(place.dataset))
    heard = Heard()
    assert recorded(other, of, heard).environment["resumed_at"] == []
    assert "of another run (it is of another run: its data is not this one's)" in heard.notes[0]
    assert file_of(place, of).with_name("checkpoint.pt.run").exists()


def torch_dataset(dataset):
    from dataclasses import replace

    return replace(dataset, fingerprint="another")


def test_run_that_failed_is_tried_again_from_its_checkpoint(tmp_path, monkeypatch):
    of, place = experiment(**SMALL), workload(tmp_path)
    original = Trainer._train

    def fails(trainer, data, between):
        if trainer.so_far.epoch == 2:
            raise RuntimeError("the device went away")
        original(trainer, data, between)

    monkeypatch.setattr(Trainer, "_train", fails)
    assert recorded(place, of).status == "failed"
    monkeypatch.undo()
    # As the next command sees it, which is the one to try it again.
    from bench.execution.work_queue import recorded_before

    before = recorded_before(place.folder / of.name)
    run = record_experiment(place, of, Heard(), before)
    assert (run.status, run.environment["resumed_at"]) == ("ok", [2])
    assert [row.epoch for row in run.epochs] == [1, 2]


def test_full_disk_stops_the_suite_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, kill):
    of, place = experiment(**SMALL), workload(tmp_path)
    original, calls = os.fsync, 0

    def full(handle):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="cannot write .*checkpoint.pt .No space left"):
        recorded(place, of)
    monkeypatch.undo()
    assert [file.name for file in (place.folder / of.name).iterdir()] == [checkpoint.NAME]
    assert recorded(place, of).environment["resumed_at"] == [2]


def test_what_a_process_left_that_was_killed_while_it_wrote_is_removed(tmp_path):
    of, place = experiment(**SMALL), workload(tmp_path)
    (place.folder / of.name).mkdir(parents=True)
    (place.folder / of.name / ".checkpoint.pt-abcd.part").write_bytes(b"half")
    recorded(place, of)
    assert not list((place.folder / of.name).glob(".*"))


def test_interrupt_finishes_the_step_and_leaves_a_checkpoint(tmp_path, monkeypatch):
    of, place = experiment(**SMALL), workload(tmp_path)
    original, steps = checkpointing.Keeper.between_steps, 0

    def interrupted(self, *args):
        nonlocal steps
        steps += 1
        if steps == 2:
            signal.raise_signal(signal.SIGINT)
        original(self, *args)

    monkeypatch.setattr(checkpointing.Keeper, "between_steps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recorded(place, of)
    assert steps == 2
    monkeypatch.undo()
    heard = Heard()
    recorded(place, of, heard)
    assert heard.notes == [f"{of.name}: goes on in epoch 1 after 2 steps"]


def test_other_number_of_threads_is_said(tmp_path, kill):
    of, place = experiment(**SMALL), workload(tmp_path)
    before = torch.get_num_threads()
    kill(2)
    with pytest.raises(Killed):
        recorded(place, of)
    kill(None)
    heard = Heard()
    try:
        torch.set_num_threads(before + 1)
        run = recorded(place, of, heard)
    finally:
        torch.set_num_threads(before)
    assert run.environment["threads"] == before + 1
    assert [part["threads"] for part in run.environment["earlier_parts"]] == [before]
    assert heard.notes[0].endswith(f"epoch 2, with {before + 1} threads (before: {before})")


def test_other_model_of_device_is_said(tmp_path, kill, monkeypatch):
    of, place = experiment(**SMALL), workload(tmp_path)
    before = environment.part(place.device)["cpu"]
    kill(2)
    with pytest.raises(Killed):
        recorded(place, of)
    kill(None)
    monkeypatch.setattr(environment, "_cpu_name", lambda: "another")
    heard = Heard()
    run = recorded(place, of, heard)
    assert run.environment["cpu"] == "another"
    assert [part["cpu"] for part in run.environment["earlier_parts"]] == [before]
    (name,) = records.load_runs(place.folder)["device_name"]
    assert name.startswith(f"{before}, ")
    assert ", then another, " in name
    assert heard.notes[0].endswith(f"epoch 2, on another (before: {before})")


def test_folder_of_results_that_vanishes_is_one_line(tmp_path, at_every_step):
    of, place = experiment(**SMALL, num_epochs=2), workload(tmp_path)

    class Vanishes(Heard):
        def epoch_finished(self, experiment, row):
            shutil.rmtree(place.folder)

    with pytest.raises(UsageError, match=f"the folder {place.folder} is gone") as error:
        recorded(place, of, Vanishes())
    assert "\n" not in str(error.value)
    assert not place.folder.exists()
