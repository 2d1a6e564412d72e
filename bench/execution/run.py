"""Run one experiment and make its record, whatever happens to it."""

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import records, sources
from bench.context import Stepper, Workload
from bench.environment import describe, prepare
from bench.errors import (
    UsageError,
    check_there,
    first_line,
    free_memory,
    is_out_of_memory,
    unwritable,
)
from bench.execution import archive, interrupts
from bench.execution.checkpointing import Keeper, Listener
from bench.execution.work_queue import Before, recorded_by_another
from bench.experiment import Experiment
from bench.instruments import gradient_error, memory
from bench.instruments.batchnorm import StatisticsTest
from bench.records import RESULTS, Run, locks
from bench.records.files import remove_parts
from bench.training.course import Course
from bench.training.trainer import DivergedError, EpochFinished, Probe, Trainer


def record_experiment(
    workload: Workload,
    experiment: Experiment,
    listener: Listener,
    before: Before,
    carry: Callable[[Path], None] = lambda file: None,
) -> Run | None:
    """Run an experiment, from its checkpoint where there is one, write its record and return it.

    All that an executor has to call, in whatever process it calls it: what it takes and returns
    are plain values. before: what was recorded of it when the command began. None: another process
    is running it. Where another has recorded it since, that is returned. carry is called with each
    checkpoint that was written, whole. On Ctrl-C the step is finished and a checkpoint written.
    Raises UsageError when something cannot be written.
    """
    with (
        locks.claim(workload.folder, experiment.name) as is_ours,
        interrupts.noted() as noted,
    ):
        if not is_ours:
            return None
        other = recorded_by_another(workload, experiment, before)
        if other is not None:
            listener.note(f"{experiment.name}: another process has run it")
            return other
        archive.put_changed_run_aside(workload, experiment, listener.note)
        prepare(workload.device, experiment.precision)
        remove_parts(workload.folder / experiment.name)
        keeper = Keeper(workload, experiment, listener, noted, carry)
        run = write(workload, run_experiment(workload, experiment, listener.epoch_finished, keeper))
        if run.status in RESULTS:
            keeper.remove()
        return run


def record_death(
    workload: Workload,
    experiment: Experiment,
    reason: str,
    course: Course,
    environment: Mapping[str, Any] | None = None,
) -> Run:
    """Record, in its place, a run that ended with its process, and return it. environment: that
    process's, where it is not like this one's."""
    run = _run(workload, experiment, "failed", reason, course, environment=environment)
    return write(workload, run)


def write(workload: Workload, run: Run) -> Run:
    """Write a run's record. Raises UsageError when it cannot be written, or its folder is gone."""
    check_there(workload.folder)
    try:
        records.write_run(workload.results, run)
    except OSError as error:
        raise unwritable(str(run.folder(workload.results)), error) from error
    return run


def run_experiment(
    workload: Workload,
    experiment: Experiment,
    epoch_finished: EpochFinished,
    keeper: Keeper | None = None,
) -> Run:
    """Train and measure; the record's status and reason say how it ended.

    What was observed before it ended is in the record. Nothing is raised but an interrupt, and
    UsageError when the keeper cannot write.
    """
    course = Course()
    trainer: Trainer | None = None
    status, reason = "ok", None
    try:
        with torch.random.fork_rng(devices=_cuda(workload.device)):
            trainer = _trainer(workload, experiment, course, keeper)
            _train(workload, experiment, epoch_finished, trainer, course, keeper)
    except UsageError:
        raise
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # one bad experiment never stops the suite
        if is_out_of_memory(error):
            status, reason = "oom", first_line(error) or type(error).__name__
        else:
            status, reason = "failed", traceback.format_exc()
    if status == "oom":
        free_memory(workload.device)
    execution = trainer.execution if trainer else None
    return _run(workload, experiment, status, reason, course, execution)


def _trainer(
    workload: Workload, experiment: Experiment, course: Course, keeper: Keeper | None
) -> Trainer:
    """At its start, or where the run stopped, together with the course and the random state."""
    if keeper is not None:
        trainer = Trainer(experiment, workload.device, eager=workload.eager)
        if keeper.go_on(trainer, course):
            return trainer
        del trainer  # its memory is not to be measured
    torch.manual_seed(experiment.seed)  # for whoever has dropout
    course.peak_bytes = _peak_bytes(workload, experiment)
    return Trainer(experiment, workload.device, eager=workload.eager)


def _train(
    workload: Workload,
    experiment: Experiment,
    epoch_finished: EpochFinished,
    trainer: Trainer,
    course: Course,
    keeper: Keeper | None,
) -> None:
    def between() -> None:
        if keeper is not None:
            keeper.between_steps(trainer, course)

    data = workload.data_for(experiment)
    statistics = StatisticsTest(experiment, data, workload.device)
    for row in trainer.epochs(data, _probe(workload, experiment), statistics.measure, between):
        course.rows.append(row)
        epoch_finished(experiment, row)
        if keeper is not None:
            keeper.write(trainer, course)
    course.correct = {
        kind: records.packed(correct.numpy()) for kind, correct in trainer.correct.items()
    }


def _run(
    workload: Workload,
    experiment: Experiment,
    status: str,
    reason: str | None,
    course: Course,
    execution: str | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Run:
    rows = course.rows
    return Run(
        suite=workload.suite,
        name=experiment.name,
        experiment=asdict(experiment),
        environment={
            **(environment or describe(workload.device, experiment.precision)),
            "sources": sources.of(experiment),
            "execution": execution,
            "executor": workload.executor,
            "jobs": workload.jobs,
            "started_at": course.started_at,
            "resumed_at": [*course.resumed_at],
            "earlier_parts": [*course.earlier_parts] or None,
        },
        data=workload.dataset.described,
        status=status,
        reason=reason,
        summary={
            **_summary(rows),
            "overhead": _overhead(rows, _steps_an_epoch(workload, experiment)),
            "peak_memory_bytes": course.peak_bytes,
            "seconds": course.seconds,
        },
        correct=course.correct,
        epochs=rows,
    )


def _probe(workload: Workload, experiment: Experiment) -> Callable[[nn.Module], Probe]:
    if experiment.is_baseline:
        return lambda network: Probe()
    images, labels = workload.fixed_batch(experiment.probe_images)

    def probe(network: nn.Module) -> Probe:
        found = gradient_error.measure(network, images, labels)
        return Probe(found.error, found.cosine, found.block_errors, found.block_cosines)

    return probe


def _peak_bytes(workload: Workload, experiment: Experiment) -> int:
    step = Stepper(workload, experiment, workload.batch_size(experiment))
    step()  # the optimiser's own state is there before the step that is measured
    return memory.peak_bytes(step, workload.device)


def _summary(rows: Sequence[records.EpochRow]) -> dict[str, object]:
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


def _overhead(rows: Sequence[records.EpochRow], steps: int) -> float | None:
    """What part of the epochs' time, testing left out, was not spent in training steps."""
    whole = sum(row.train_seconds + row.probe_seconds for row in rows)
    return 1 - sum(row.seconds_per_step * steps for row in rows) / whole if whole else None


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
