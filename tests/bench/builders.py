"""Small data sets, runs, records, images and a reporter for the tests."""

import struct
import zlib
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from PIL import Image

from bench.context import Workload
from bench.data import Dataset
from bench.data.classes import CLASSES
from bench.data.generated import load as load_generated
from bench.execution import position
from bench.execution.checkpointing import Checkpointer
from bench.execution.run import record_experiment
from bench.experiment import Experiment
from bench.records import EpochRow, Run

CPU = torch.device("cpu")
ONE_EPOCH = {"num_epochs": 1, "train_images": 20, "test_images": 10, "batch_size": 10}
ONE_EPOCH_LINE = (
    "--network resnet4 --num_epochs 1 --train-images 20 --test-images 10 --batch_size 10"
)


def experiment(**changes) -> Experiment:
    """One that trains in a second: three steps an epoch."""
    small = {
        **{"network": "resnet4", "gradient": "anode", "method": "rk2", "n_steps": 2},
        **{"num_epochs": 2, "batch_size": 32, "train_images": 80, "test_images": 40},
        "probe_images": 8,
    }
    return Experiment(**{**small, **changes})


def workload(folder, dataset: Dataset | None = None, *, jobs: int = 1) -> Workload:
    return Workload("suite", folder, dataset or load_generated(10), CPU, jobs)


def ran(place: Workload, of: Experiment) -> Run:
    """The record of the experiment, run in another folder."""
    with TemporaryDirectory() as folder:
        other = replace(place, results=Path(folder))
        with position.written(other, of) as listener:
            return record_experiment(other, of, listener, None)


def train(folder, **changes) -> Run:
    """Train a small experiment; nothing is written into the folder."""
    return ran(workload(folder), experiment(**changes))


@contextmanager
def interrupted_after_an_epoch():
    """Context in which Ctrl-C comes after the checkpoint of a run's first epoch."""
    original = Checkpointer.write

    def stop(self, trainer):
        original(self, trainer)
        if trainer.state.epoch == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpointer, "write", stop)
        yield


class Heard:
    """A reporter that keeps its events: `told` as (name, what), and `notes`."""

    def __init__(self, epoch_finished=lambda row: None):
        self.told, self.notes, self.positions = [], [], []
        self.running, self.most_running = set(), 0
        self._epoch_finished = epoch_finished

    def run_started(self, of):
        self.told.append((of.name, "started"))
        self.running.add(of.name)
        self.most_running = max(self.most_running, len(self.running))

    def stepped(self, of, position):
        self.positions.append((position.epoch, position.step))

    def run_resumed(self, of, rows):
        self.told.append((of.name, "resumed"))

    def epoch_finished(self, of, row):
        self.told.append((of.name, row.epoch))
        self._epoch_finished(row)

    def run_postponed(self, of):
        self.told.append((of.name, "postponed"))
        self.running.remove(of.name)

    def run_finished(self, run):
        self.told.append((run.name, run.status))
        self.running.remove(run.name)

    def note(self, line):
        self.notes.append(line)

    def events(self, of):
        """The events of one experiment."""
        return [what for name, what in self.told if name == of.name]


def write_images(folder, *, per_class=2, classes=CLASSES[10], suffix=".png", size=(32, 32)):
    """A folder of random images in the image-folder layout; returns the folder."""
    random = np.random.RandomState(0)
    for part in ("train", "test"):
        for name in classes:
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(per_class):
                pixels = random.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i:04}{suffix}")
    return folder


def png(*chunks, size=(32, 32), depth=8, colour_type=2) -> bytes:
    """A PNG of these chunks between its header and its end."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in [(b"IHDR", header), *chunks, (b"IEND", b"")]:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        content += struct.pack(">I", len(body)) + kind + body + checksum
    return content


class Detonator:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def row(epoch: int, **changes) -> EpochRow:
    values = {
        **{"epoch": epoch, "learning_rate": 0.1, "train_loss": 2.0 / epoch, "train_accuracy": 0.5},
        **{"test_loss": 1.5, "test_accuracy": 0.1 * epoch, "nfe_forward": 4, "nfe_backward": 4},
        **{"gradient_error": 0.25, "gradient_cosine": 0.9},
        **{"gradient_error_blocks": (0.5, 0.125), "gradient_cosine_blocks": (0.8, 0.95)},
        **{"seconds_per_step": 0.1, "train_seconds": 1.0, "test_seconds": 0.2},
        "probe_seconds": 0.05,
    }
    return EpochRow(**{**values, **changes})


def record_of(one: Experiment, **changes) -> Run:
    """A record of an experiment, made up."""
    return run(one.name, experiment=asdict(one), **changes)


def run(name="a", *, epochs=(), **changes) -> Run:
    """A record, made up."""
    fields = {
        **{"network": "resnet4", "gradient": "node", "method": "rk2", "n_steps": 2, "seed": 0},
        **{"num_classes": 10, "num_epochs": 4, "batch_size": 64, "lr": 0.1, "precision": "float32"},
        **{"train_images": 640, "test_images": 320, "probe_images": 8},
    }
    fields |= {key: changes.pop(key) for key in list(changes) if key in fields}
    last = epochs[-1].test_accuracy if epochs else None
    values = {
        **{"suite": "suite", "name": name, "experiment": fields, "status": "ok"},
        "environment": {"device": "cpu", "device_name": "a test machine"},
        "data": {"source": "real images", "fingerprint": "0123", "is_generated": False},
        "summary": {"final_test_accuracy": last, "best_test_accuracy": last, "seconds": 5.0},
        "epochs": epochs,
    }
    return Run(**{**values, **changes})
