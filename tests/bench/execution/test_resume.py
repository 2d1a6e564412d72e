"""A run that was stopped continues, and its record is that of a run that never stopped."""

import json
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

import models
from bench import environment, records
from bench.errors import UsageError
from bench.execution import checkpointing
from bench.execution.run import record_experiment
from bench.execution.work_queue import record_stamp
from bench.training import checkpoint
from bench.training.checkpoint import Owner
from bench.training.trainer import Trainer
from tests.bench.builders import CPU, Heard, experiment, workload
from tests.faults.command import without_clock

SMALL = {"train_images": 20, "test_images": 10, "batch_size": 8, "probe_images": 5}
"""Steps on 8, 8 and 4 images in an epoch, and one test batch: with resnet10, RK2 and two steps
anode-auto divides a block, so that its first pass, which it observes, has other bits."""


class Killed(KeyboardInterrupt):
    """As kill -9: nothing runs after it but the release of locks."""


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


def recorded(place, of, heard=None, stamp=None):
    return record_experiment(place, of, heard or Heard(), stamp)


def stopped(place, of, at=2):
    """Run and kill after the checkpoint of that number; None: after the first that shows progress.

    The first shows where the run begins.
    """
    original, seen = checkpoint.write, []

    def write(file, owner, state):
        original(file, owner, state)
        seen.append((state.epoch, state.steps))
        if len(seen) == at or (at is None and seen[-1] != seen[0]):
            raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "write", write)
        with pytest.raises(Killed):
            recorded(place, of)


def table(place, of):
    return without_clock(place.folder / of.name / "epochs.csv")


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": "anode-auto", "network": "resnet10"},
        {"gradient": "node"},
        {"gradient": "anode", "network": f"{__name__}:dropout"},
    ],
    ids=["anode-auto", "node", "dropout"],
)
def test_run_that_is_killed_at_every_step_has_the_record_of_one_that_is_not(
    tmp_path, at_every_step, changes
):
    of = experiment(**SMALL, **changes)
    never, often = workload(tmp_path / "never"), workload(tmp_path / "often")
    recorded(never, of)
    stopped(often, of, at=1)  # before its first step
    for _ in range(2 * 4):  # after each of three steps and at the end of each of two epochs
        stopped(often, of, at=None)
    recorded(often, of)
    assert table(often, of) == table(never, of)
    content = json.loads((often.folder / of.name / "run.json").read_text())
    assert content["environment"]["resumed_at"] == [1] * 4 + [2] * 4 + [3]
    names = sorted(file.name for file in (often.folder / of.name).iterdir())
    assert names == ["epochs.csv", "run.json"]


def test_checkpoints_are_written_after_each_epoch_and_inside_a_long_one(tmp_path, monkeypatch):
    of, place, heard = experiment(**SMALL), workload(tmp_path), Heard()
    stopped(place, of)
    monkeypatch.setattr(checkpointing, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    stopped(place, of, at=3)
    assert recorded(place, of, heard).environment["resumed_at"] == [2, 2]
    assert heard.events(of) == ["resumed", 2]
    assert heard.notes == [f"{of.name}: goes on in epoch 2 after 2 steps"]


def test_seconds_add_up_over_resumes_and_checkpoints_are_no_part_of_a_step(
    tmp_path, at_every_step, monkeypatch
):
    of, place = experiment(**SMALL, num_epochs=1), workload(tmp_path)
    original = checkpoint.write

    def slow(*args):
        time.sleep(0.3)
        original(*args)

    monkeypatch.setattr(checkpoint, "write", slow)
    stopped(place, of, at=3)
    run = recorded(place, of)
    (row,) = run.epochs
    assert 2 * 0.3 < row.train_seconds < run.summary["seconds"]
    assert 3 * row.seconds_per_step < row.train_seconds - 2 * 0.3


def truncated(place, of, file):
    stopped(place, of)
    file.write_bytes(file.read_bytes()[:5000])
    return place


def of_another_network(place, of, file):
    other = Trainer(experiment(**SMALL, network="resnet10"), CPU)
    checkpoint.write(file, Owner.of(of, place.dataset.fingerprint, CPU), other.snapshot())
    return place


def of_other_data(place, of, file):
    stopped(place, of)
    return replace(place, dataset=replace(place.dataset, fingerprint="another"))


@pytest.mark.parametrize(
    ("spoil", "said", "aside"),
    [
        (truncated, "the checkpoint is damaged (it", "damaged"),
        (of_another_network, "it does not hold this experiment's training", "damaged"),
        (of_other_data, "of another run (it is of another run: its data is not this one's)", "run"),
    ],
)
def test_checkpoint_that_cannot_be_used_is_set_aside_and_the_run_starts_over(
    tmp_path, spoil, said, aside
):
    of, place, never = experiment(**SMALL), workload(tmp_path / "a"), workload(tmp_path / "never")
    file = place.folder / of.name / checkpoint.NAME
    place = spoil(place, of, file)
    content, heard = file.read_bytes(), Heard()
    assert recorded(place, of, heard).environment["resumed_at"] == []
    (line,) = heard.notes
    assert said in line
    assert line.endswith(f"it is now checkpoint.pt.{aside}, and the run starts over")
    assert file.with_name(f"checkpoint.pt.{aside}").read_bytes() == content
    recorded(never, of)
    assert table(place, of) == table(never, of)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_and_leaves_a_checkpoint(tmp_path, monkeypatch, number):
    of, place = experiment(**SMALL), workload(tmp_path)
    original, steps = checkpointing.Checkpointer.on_step_end, []

    def interrupted(self, *args):
        steps.append(args)
        if len(steps) == 2:
            signal.raise_signal(number)
        original(self, *args)

    monkeypatch.setattr(checkpointing.Checkpointer, "on_step_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recorded(place, of)
    assert len(steps) == 2
    monkeypatch.undo()
    heard = Heard()
    recorded(place, of, heard)
    assert heard.notes == [f"{of.name}: goes on in epoch 1 after 2 steps"]


def test_other_threads_and_another_cpu_are_told_and_recorded(tmp_path, monkeypatch):
    of, place, heard = experiment(**SMALL), workload(tmp_path), Heard()
    before, threads = environment.part(CPU)["cpu"], torch.get_num_threads()
    stopped(place, of)
    monkeypatch.setattr(environment, "_cpu_name", lambda: "another")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
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
    of, place = experiment(**SMALL), workload(tmp_path)
    with pytest.raises(UsageError, match=f"the folder {place.folder} is gone") as error:
        recorded(place, of, Heard(lambda row: shutil.rmtree(place.folder)))
    assert "\n" not in str(error.value)
    assert not place.folder.exists()
