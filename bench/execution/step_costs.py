"""Seconds, peak bytes and evaluations of a training step, for every configuration of a suite."""

import math
from collections.abc import Iterable
from dataclasses import astuple
from itertools import groupby

import solvers
from bench.context import Workload
from bench.errors import UsageError, free_memory, is_out_of_memory
from bench.experiment import Experiment
from bench.instruments import memory, timing
from bench.instruments.batchnorm import forward_images
from bench.records import Configuration, Measurement, key_of
from bench.reporting.remaining import Plan
from bench.training.clock import TOTAL
from bench.training.measured_step import MeasuredStep

TIMED_STEPS = 3

_EVERY_SIZE = ("network", "method", "n_steps", "gradient")
"""The fields that determine the time of one image; it is taken to be equal for all batch sizes."""


def measure_step_costs(
    workload: Workload,
    experiments: Iterable[Experiment],
    *,
    batch_size: int | None = None,
    repeats: int = TIMED_STEPS,
) -> list[Measurement]:
    """Measure each network × method × Nt × gradient method of the experiments: four rows each.

    The configurations of a network are interleaved, so that their ratios hold on a busy machine.
    batch_size replaces that of the experiments. A configuration that does not fit into memory, or
    fails, is left out: the records of its runs will say so.
    """
    configurations = {configuration(workload, e): e for e in experiments}
    ordered = sorted(configurations.values(), key=lambda experiment: experiment.network)
    found: list[Measurement] = []
    for _, group in groupby(ordered, key=lambda experiment: experiment.network):
        found += _measure(workload, list(group), batch_size, repeats)
    return found


def estimate_seconds(
    experiments: Iterable[Experiment],
    measurements: Iterable[Measurement],
    *,
    train_images: int,
    test_images: int,
) -> float:
    """Estimate the seconds that the experiments take one after another on the measured device, as
    `plan` does for one of them."""
    known = list(measurements)
    sizes = {"train_images": train_images, "test_images": test_images}
    return sum(plan(experiment, known, **sizes).total for experiment in experiments)


def plan(
    experiment: Experiment,
    measurements: Iterable[Measurement],
    *,
    train_images: int,
    test_images: int,
) -> Plan:
    """Estimate the seconds of an experiment's parts on the measured device.

    A training image costs what was measured, and an image of the tests, which passes forward, a
    third of that. train_images and test_images: the sizes of the whole data set. All seconds are 0
    where nothing was measured.
    """
    per_image = {
        key_of(m, _EVERY_SIZE): m.value / m.batch_size
        for m in measurements
        if m.quantity == "seconds_per_step"
    }
    seconds = per_image.get(key_of(experiment, _EVERY_SIZE), 0.0)
    train = experiment.train_images or train_images
    test = experiment.test_images or test_images
    n_steps = math.ceil(train / experiment.batch_size)
    return Plan(
        experiment.num_epochs,
        n_steps,
        seconds * train / n_steps,
        seconds * forward_images(train, test, is_last=False) / 3,
        seconds * forward_images(train, test, is_last=True) / 3,
    )


def configuration(workload: Workload, experiment: Experiment) -> Configuration:
    """The configuration that determines the cost of an experiment's step."""
    return _configuration(experiment, workload.batch_size(experiment), workload.device.type)


def _configuration(experiment: Experiment, batch_size: int, device: str) -> Configuration:
    return Configuration(
        experiment.network,
        experiment.method,
        experiment.n_steps,
        experiment.gradient,
        batch_size,
        device,
        experiment.precision,
    )


def _measure(
    workload: Workload, experiments: list[Experiment], batch_size: int | None, repeats: int
) -> list[Measurement]:
    steppers: dict[Experiment, MeasuredStep] = {}
    peaks: dict[Experiment, int] = {}
    for experiment in experiments:
        try:
            size = batch_size or workload.batch_size(experiment)
            stepper = MeasuredStep(workload, experiment, size, is_captured=not workload.eager)
            stepper.eagerly()  # allocates what libraries keep, which does not count
            peaks[experiment] = memory.peak_bytes(stepper.eagerly, workload.device)
            steppers[experiment] = stepper
        except solvers.ContractError as error:
            raise UsageError(str(error)) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if is_out_of_memory(error):
                free_memory(workload.device)
    taken = timing.interleaved(steppers, workload.device, repeats)
    return [
        measurement
        for experiment, stepper in steppers.items()
        for measurement in _measurements(
            experiment,
            stepper,
            workload.device.type,
            timing.Seconds.of(taken[experiment][TOTAL]),
            peaks[experiment],
        )
    ]


def _measurements(
    experiment: Experiment, stepper: MeasuredStep, device: str, seconds: timing.Seconds, peak: int
) -> list[Measurement]:
    forward, backward = stepper.evaluations
    exact = (
        ("peak_memory", "bytes", peak),
        ("nfe_forward", "evaluations", forward),
        ("nfe_backward", "evaluations", backward),
    )
    rows = [
        ("seconds_per_step", "seconds", seconds.median, seconds.low, seconds.high, seconds.repeats),
        *((quantity, unit, value, value, value, 1) for quantity, unit, value in exact),
    ]
    where = astuple(_configuration(experiment, len(stepper.labels), device))
    return [Measurement(*(*where, *row)) for row in rows]
