"""Run one experiment and make its record, whatever happens to it."""

import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import nn

from bench import gradient_error, memory, records, training
from bench.environment import describe, prepare
from bench.errors import unwritable
from bench.experiment import Experiment
from bench.faults import free_memory, is_out_of_memory
from bench.records import EpochRow, Run
from bench.training import Trainer
from bench.workload import Stepper, Workload

EpochFinished = Callable[[Experiment, EpochRow], None]


def record_experiment(
    workload: Workload, experiment: Experiment, epoch_finished: EpochFinished
) -> Run:
    """Run an experiment, write its record and return it.

    All that an executor has to call, in whatever process it calls it: what it takes and returns
    are plain values. Raises UsageError when the record cannot be written.
    """
    prepare(experiment.precision)
    return write(workload, run_experiment(workload, experiment, epoch_finished))


def record_death(
    workload: Workload,
    experiment: Experiment,
    reason: str,
    rows: Sequence[EpochRow],
    seconds: float,
) -> Run:
    """Record, in its place, a run that ended with its process, and return it."""
    return write(workload, _run(workload, experiment, "failed", reason, rows, None, seconds))


def write(workload: Workload, run: Run) -> Run:
    """Write a run's record. Raises UsageError when it cannot be written."""
    try:
        records.write_run(workload.results, run)
    except OSError as error:
        raise unwritable(str(run.folder(workload.results)), error) from error
    return run


def run_experiment(
    workload: Workload, experiment: Experiment, epoch_finished: EpochFinished
) -> Run:
    """Train and measure; the record's status and reason say how it ended.

    What was observed before it ended is in the record. Nothing but an interrupt is raised.
    """
    started = time.perf_counter()
    rows: list[EpochRow] = []
    peak: int | None = None
    trainer: Trainer | None = None
    status, reason = "ok", None
    try:
        with torch.random.fork_rng(devices=_cuda(workload.device)):
            torch.manual_seed(experiment.seed)  # for whoever has dropout
            peak = _peak_bytes(workload, experiment)
            trainer = Trainer(experiment, workload.device, eager=workload.eager)
            data = workload.data_for(experiment)
            for row in trainer.epochs(data, _probe(workload, experiment)):
                rows.append(row)
                epoch_finished(experiment, row)
    except training.DivergedError as error:
        status, reason = "diverged", str(error)
    except Exception as error:  # one bad experiment never stops the suite
        if is_out_of_memory(error):
            status, reason = "oom", str(error).strip().splitlines()[0]
        else:
            status, reason = "failed", traceback.format_exc()
    if status == "oom":
        free_memory(workload.device)
    seconds = time.perf_counter() - started
    execution = trainer.execution if trainer else None
    return _run(workload, experiment, status, reason, rows, peak, seconds, execution)


def _run(
    workload: Workload,
    experiment: Experiment,
    status: str,
    reason: str | None,
    rows: Sequence[EpochRow],
    peak: int | None,
    seconds: float,
    execution: str | None = None,
) -> Run:
    return Run(
        suite=workload.suite,
        name=experiment.name,
        experiment=asdict(experiment),
        environment={
            **describe(workload.device, experiment.precision),
            "execution": execution,
            "jobs": workload.jobs,
        },
        data=workload.describe_data(),
        status=status,
        reason=reason,
        summary={
            **_summary(rows),
            "overhead": _overhead(rows, _steps_an_epoch(workload, experiment)),
            "peak_memory_bytes": peak,
            "seconds": seconds,
        },
        epochs=rows,
    )


def _probe(workload: Workload, experiment: Experiment) -> Callable[[nn.Module], training.Probe]:
    if experiment.is_baseline:
        return lambda network: training.Probe()
    images, labels = workload.fixed_batch(experiment.probe_images)

    def probe(network: nn.Module) -> training.Probe:
        found = gradient_error.measure(network, images, labels)
        return training.Probe(found.error, found.cosine, found.block_errors, found.block_cosines)

    return probe


def _peak_bytes(workload: Workload, experiment: Experiment) -> int:
    step = Stepper(workload, experiment, workload.batch_size(experiment))
    step()  # the optimiser's own state is there before the step that is measured
    return memory.peak_bytes(step, workload.device)


def _summary(rows: Sequence[EpochRow]) -> dict[str, object]:
    last = rows[-1] if rows else None
    best = max(rows, key=lambda row: row.test_accuracy) if rows else None
    return {
        "epochs": len(rows),
        "final_train_loss": last and last.train_loss,
        "final_test_accuracy": last and last.test_accuracy,
        "best_test_accuracy": best and best.test_accuracy,
        "best_epoch": best and best.epoch,
        "final_gradient_error": last and last.gradient_error,
        "nfe_forward": last and last.nfe_forward,
        "nfe_backward": last and last.nfe_backward,
    }


def _steps_an_epoch(workload: Workload, experiment: Experiment) -> int:
    images = experiment.train_images or len(workload.dataset.train_labels)
    return math.ceil(images / experiment.batch_size)


def _overhead(rows: Sequence[EpochRow], steps: int) -> float | None:
    """What part of the epochs' time, testing left out, was not spent in training steps."""
    whole = sum(row.train_seconds + row.probe_seconds for row in rows)
    return 1 - sum(row.seconds_per_step * steps for row in rows) / whole if whole else None


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
