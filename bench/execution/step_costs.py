"""Seconds, peak bytes and evaluations of a training step, for every configuration of a suite."""

from collections.abc import Iterable
from dataclasses import astuple
from itertools import groupby

import solvers
from bench.context import Stepper, Workload
from bench.errors import UsageError, free_memory, is_out_of_memory
from bench.experiment import Experiment
from bench.instruments import memory, timing
from bench.records import Configuration, Measurement, key_of
from bench.training.clock import WHOLE

TIMED_STEPS = 3

_EVERY_SIZE = ("network", "method", "n_steps", "gradient")
"""By which the time of an image is known: taken to be the same in every batch."""


def measure_step_costs(
    workload: Workload,
    experiments: Iterable[Experiment],
    *,
    batch_size: int | None = None,
    repeats: int = TIMED_STEPS,
) -> list[Measurement]:
    """Four measurements for each network × method × Nt × gradient method of the experiments.

    The configurations of a network take turns, so that their ratios hold on a machine that does
    other things besides. batch_size replaces the experiments' own. A configuration that does not
    fit into memory, or fails, is left out: its runs will be recorded as what they are.
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
    """About how long the experiments will take one after another on the measured device.

    Training steps as measured, and a third of that for each test image (a forward pass alone).
    train_images and test_images are the size of the whole data set.
    """
    per_image = {
        key_of(m, _EVERY_SIZE): m.value / m.batch_size
        for m in measurements
        if m.quantity == "seconds_per_step"
    }
    total = 0.0
    for experiment in experiments:
        train = experiment.train_images or train_images
        test = experiment.test_images or test_images
        images = experiment.num_epochs * (train + test / 3)
        total += images * per_image.get(key_of(experiment, _EVERY_SIZE), 0.0)
    return total


def configuration(workload: Workload, experiment: Experiment) -> Configuration:
    """What a step's cost depends on."""
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
    steppers: dict[Experiment, Stepper] = {}
    peaks: dict[Experiment, int] = {}
    for experiment in experiments:
        try:
            size = batch_size or workload.batch_size(experiment)
            stepper = Stepper(workload, experiment, size, is_captured=not workload.eager)
            stepper.eagerly()  # what libraries keep for good is there before what is measured
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
            timing.Seconds.of(taken[experiment][WHOLE]),
            peaks[experiment],
        )
    ]


def _measurements(
    experiment: Experiment, stepper: Stepper, device: str, seconds: timing.Seconds, peak: int
) -> list[Measurement]:
    forward, backward = stepper.evaluations()
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
