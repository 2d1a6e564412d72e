"""Small data sets, records and folders of images for the tests."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from bench.context import Workload
from bench.data import Dataset
from bench.data.classes import CLASSES
from bench.data.generated import load as load_generated
from bench.execution import position
from bench.execution.run import record_experiment
from bench.experiment import Experiment
from bench.records import EpochRow, Run

CPU = torch.device("cpu")


def experiment(**changes) -> Experiment:
    """One that trains in a second."""
    small = {
        "network": "resnet4",
        "gradient": "anode",
        "method": "rk2",
        "n_steps": 2,
        "num_epochs": 2,
        "batch_size": 32,
        "train_images": 80,
        "test_images": 40,
        "probe_images": 8,
    }
    return Experiment(**{**small, **changes})


def workload(folder, dataset: Dataset | None = None, *, jobs: int = 1) -> Workload:
    return Workload("suite", folder, dataset or load_generated(10), CPU, jobs)


def ran(place: Workload, of: Experiment) -> Run:
    """The record of the experiment, run in another folder."""
    with TemporaryDirectory() as folder:
        elsewhere = replace(place, results=Path(folder))
        with position.written(elsewhere, of) as listener:
            return record_experiment(elsewhere, of, listener, None)


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


def row(epoch: int, **changes) -> EpochRow:
    values = {
        "epoch": epoch,
        "learning_rate": 0.1,
        "train_loss": 2.0 / epoch,
        "train_accuracy": 0.5,
        "test_loss": 1.5,
        "test_accuracy": 0.1 * epoch,
        "nfe_forward": 4,
        "nfe_backward": 4,
        "gradient_error": 0.25,
        "gradient_cosine": 0.9,
        "gradient_error_blocks": (0.5, 0.125),
        "gradient_cosine_blocks": (0.8, 0.95),
        "seconds_per_step": 0.1,
        "train_seconds": 1.0,
        "test_seconds": 0.2,
        "probe_seconds": 0.05,
    }
    return EpochRow(**{**values, **changes})


def run(name="a", *, epochs=(), **changes) -> Run:
    """A record, made up."""
    fields = {
        "network": "resnet4",
        "gradient": "node",
        "method": "rk2",
        "n_steps": 2,
        "seed": 0,
        "num_classes": 10,
        "num_epochs": 4,
        "batch_size": 64,
        "lr": 0.1,
        "precision": "float32",
        "train_images": 640,
        "test_images": 320,
        "probe_images": 8,
    }
    fields |= {key: changes.pop(key) for key in list(changes) if key in fields}
    last = epochs[-1].test_accuracy if epochs else None
    values = {
        "suite": "suite",
        "name": name,
        "experiment": fields,
        "environment": {"device": "cpu", "device_name": "a test machine"},
        "data": {"source": "real images", "fingerprint": "0123", "is_generated": False},
        "status": "ok",
        "summary": {"final_test_accuracy": last, "best_test_accuracy": last},
        "epochs": epochs,
    }
    return Run(**{**values, **changes})
