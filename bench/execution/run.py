"""Run one experiment and record it, however it ends."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial

import torch
from torch import nn

from bench import records, sources
from bench.context import Workload
from bench.environment import describe, now, part, prepare
from bench.errors import UsageError, check_there, first_line, free_memory, is_out_of_memory, writing
from bench.execution import archive
from bench.execution.checkpointing import Checkpointer, Listener
from bench.execution.work_queue import RecordStamp, recorded_since
from bench.experiment import Experiment
from bench.instruments import gradient_error, memory
from bench.instruments.batchnorm import StatisticsTest
from bench.records import RESULTS, EpochRow, Run, locks
from bench.records.files import remove_parts
from bench.training import interrupts
from bench.training.checkpoint import DamagedError, RunState
from bench.training.measured_step import MeasuredStep
from bench.training.trainer import DivergedError, Probe, Trainer


def record_experiment(
    workload: Workload, experiment: Experiment, listener: Listener, stamp: RecordStamp
) -> Run | None:
    """Run an experiment, from its checkpoint if there is one; write its record and return it.

    Every executor calls this, in any process. stamp: of the record when the command began. Returns
    the record of another process that has written it since, and None if another process is running
    the experiment. On SIGINT or SIGTERM finishes the step, writes a checkpoint and raises
    KeyboardInterrupt. Raises UsageError if something cannot be written.
    """
    claimed = locks.claim(workload.folder, experiment.name)
    with claimed as is_ours, interrupts.deferred() as deferred:
        if not is_ours:
            return None
        other = recorded_since(workload, experiment, stamp)
        if other is not None:
            listener.note(f"{experiment.name}: another process has run it")
            return other
        archive.archive_changed_run(workload, experiment, listener.note)
        prepare(workload.device, experiment.precision)
        remove_parts(workload.folder / experiment.name)
        checkpointer = Checkpointer(workload, experiment, listener, deferred)
        run = _run_experiment(workload, experiment, listener, checkpointer)
        _write(workload, run)
        if run.status in RESULTS:
            checkpointer.remove()
        return run


def record_death(
    workload: Workload, experiment: Experiment, reason: str, state: RunState | None
) -> Run:
    """Record a run whose process died as failed. state: of its last checkpoint."""
    state = state or RunState(started_at=now())
    return _write(workload, _run(workload, experiment, "failed", reason, state))


def _run_experiment(
    workload: Workload, experiment: Experiment, listener: Listener, checkpointer: Checkpointer
) -> Run:
    """Train and measure. The record has what was observed before the end, and how it ended.

    Raises nothing but KeyboardInterrupt, and UsageError if a checkpoint cannot be written.
    """
    trainer: Trainer | None = None
    status, reason = "ok", None
    try:
        cuda = [workload.device] if workload.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            trainer = _trainer(workload, experiment, checkpointer)
            for row in _epochs(workload, experiment, trainer, checkpointer):
                listener.epoch_finished(experiment, row)
                checkpointer.write(trainer)
    except (KeyboardInterrupt, UsageError):
        raise
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except BaseException as error:  # one bad experiment never stops the suite
        if is_out_of_memory(error):
            status, reason = "oom", first_line(error) or type(error).__name__
        else:
            status, reason = "failed", traceback.format_exc()
    if status == "oom":
        free_memory(workload.device)
    if trainer is None:
        return _run(workload, experiment, status, reason, RunState(started_at=now()))
    trainer.state.count_seconds()
    return _run(workload, experiment, status, reason, trainer.state, trainer.execution)


def _trainer(workload: Workload, experiment: Experiment, checkpointer: Checkpointer) -> Trainer:
    """Make a trainer, from the checkpoint if there is one. Sets the random state."""
    device, eager = workload.device, workload.eager
    found = checkpointer.read()
    if found:
        try:
            trainer = Trainer(experiment, device, found, eager=eager)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            checkpointer.reject(DamagedError("it does not hold this experiment's training"))
        else:
            checkpointer.resume(trainer)
            return trainer
    state = RunState(started_at=now(), parts=(part(device),))
    torch.manual_seed(experiment.seed)  # for a network with dropout
    state.peak_bytes = _peak_bytes(workload, experiment)
    trainer = Trainer(experiment, device, state, eager=eager)
    checkpointer.write(trainer)  # shows that the run has started
    return trainer


def _epochs(
    workload: Workload, experiment: Experiment, trainer: Trainer, checkpointer: Checkpointer
) -> Iterator[EpochRow]:
    data = workload.data_for(experiment)
    statistics = StatisticsTest(experiment, data, workload.device)
    on_step_end = partial(checkpointer.on_step_end, trainer)
    return trainer.epochs(data, _probe(workload, experiment), statistics.measure, on_step_end)


def _run(
    workload: Workload,
    experiment: Experiment,
    status: str,
    reason: str | None,
    state: RunState,
    execution: str | None = None,
) -> Run:
    *earlier_parts, current = state.parts or ({},)
    return Run(
        suite=workload.suite,
        name=experiment.name,
        experiment=asdict(experiment),
        environment={
            **describe(workload.device, experiment.precision),
            **sources.described(experiment),
            **current,
            "execution": execution,
            "executor": workload.executor,
            "jobs": workload.jobs,
            "started_at": state.started_at,
            "resumed_at": [*state.resumed_at],
            "earlier_parts": earlier_parts or None,
        },
        data=workload.dataset.described,
        status=status,
        reason=reason,
        summary={
            **_summary(state.rows),
            "overhead": _overhead(state.rows, workload.steps_an_epoch(experiment)),
            "peak_memory_bytes": state.peak_bytes,
            "seconds": state.seconds,
        },
        correct={k: records.packed(c.numpy()) for k, c in state.correct_images.items()},
        epochs=state.rows,
    )


def _write(workload: Workload, run: Run) -> Run:
    """Write a run's record. Raises UsageError if that is impossible or the folder is gone."""
    check_there(workload.folder)
    with writing(run.folder(workload.results)):
        records.write_run(workload.results, run)
    return run


def _probe(workload: Workload, experiment: Experiment) -> Callable[[nn.Module], Probe]:
    if experiment.is_baseline:
        return lambda network: Probe()
    images, labels = workload.fixed_batch(experiment.probe_images)

    def probe(network: nn.Module) -> Probe:
        found = gradient_error.measure(network, images, labels)
        return Probe(found.error, found.cosine, found.block_errors, found.block_cosines)

    return probe


def _peak_bytes(workload: Workload, experiment: Experiment) -> int:
    step = MeasuredStep(workload, experiment, workload.batch_size(experiment))
    step()  # allocates the optimiser's state, which does not count
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


def _overhead(rows: Sequence[EpochRow], steps: int) -> float | None:
    """Share of the epochs' time, without tests, that was not spent in training steps."""
    whole = sum(row.train_seconds + row.probe_seconds for row in rows)
    return 1 - sum(row.seconds_per_step * steps for row in rows) / whole if whole else None
