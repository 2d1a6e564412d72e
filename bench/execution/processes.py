"""Run experiments on this machine, several at once, each in a process of its own.

A process per experiment, not a pool: if the system kills a process, one experiment fails and not
the pool, and a process that ends frees all its memory, on a GPU the CUDA context too.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.multiprocessing  # passes tensors in shared memory to processes
from torch import Tensor

from bench import environment
from bench.context import Workload
from bench.data import Dataset
from bench.errors import UsageError, free_memory
from bench.execution import position
from bench.execution.run import record_experiment
from bench.execution.watch import RunWatcher
from bench.execution.work_queue import RecordStamp
from bench.experiment import Experiment
from bench.records import Run
from bench.reporting.progress import Reporter

SECONDS_TO_STOP = 10.0
"""The time in which a worker must write its checkpoint before it is killed."""

USAGE_ERROR = 2
"""Exit code of a worker: the suite has to stop, and the error file says why."""


def run_all(workload: Workload, experiments: Sequence[Experiment], reporter: Reporter) -> list[Run]:
    """Run and record the experiments, workload.jobs at once; return the runs in that order.

    A run whose worker dies is recorded as failed, and the next command repeats it: at once, it
    could exhaust the host's memory again. Raises UsageError if a record cannot be written. No
    worker outlives this function.
    """
    _share(workload.dataset)
    free_memory(workload.device)  # of the step costs, measured in this process
    # Divided by jobs, not by the number of running workers, so that it stays the same to the end.
    # Set here too, for the records that this process writes.
    threads = max(1, torch.get_num_threads() // workload.jobs)
    with environment.threads(threads), _Workers(workload, threads) as workers:
        return RunWatcher(workload, experiments, reporter).run_all(workers, workload.jobs)


class _Workers:
    """A context in which workers run: when it ends, they end."""

    def __init__(self, workload: Workload, threads: int) -> None:
        self._workload = workload
        self._threads = threads
        self._running: dict[Experiment, SpawnProcess] = {}
        self._folder = TemporaryDirectory(prefix="anode-bench-")

    def start(self, experiment: Experiment, stamp: RecordStamp) -> None:
        process = get_context("spawn").Process(  # a forked process cannot use CUDA
            target=work,
            args=(self._workload, experiment, stamp, self._threads, self._errors(experiment)),
            daemon=True,
        )
        # Started like this, it ignores SIGINT from its first moment: see `work`.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        except OSError as error:
            raise UsageError(
                f"cannot start a process for {experiment.name} ({error.strerror}): "
                "use fewer --jobs; the same command goes on with the rest"
            ) from error
        finally:
            signal.signal(signal.SIGINT, before)
        self._running[experiment] = process

    def ended(self, seconds: float) -> Iterator[tuple[Experiment, str | None]]:
        """See `watch.Pool`."""
        if not self._running:
            time.sleep(seconds)
        connection.wait([process.sentinel for process in self._running.values()], seconds)
        for experiment, process in [*self._running.items()]:
            if process.is_alive():
                continue
            process.join()
            del self._running[experiment]
            file = self._errors(experiment)
            error = file.read_text(encoding="utf-8") if file.exists() else None
            if process.exitcode == USAGE_ERROR and error:
                raise UsageError(error)
            yield (
                experiment,
                (error or _how_it_died(process.exitcode)) if process.exitcode else None,
            )

    def _errors(self, experiment: Experiment) -> Path:
        return Path(self._folder.name) / experiment.name

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        left = self._running.values()
        try:
            for process in left:
                process.terminate()  # each finishes its step and writes its checkpoint
            until = time.monotonic() + SECONDS_TO_STOP
            for process in left:
                process.join(max(0.0, until - time.monotonic()))
        finally:  # after that time, or at a second Ctrl-C
            for process in left:
                process.kill()
                process.join()
            self._folder.cleanup()


def work(
    workload: Workload, experiment: Experiment, stamp: RecordStamp, threads: int, errors: Path
) -> None:
    """Run and record the experiment; the results folder shows its progress and its end.

    A terminal sends Ctrl-C to all processes, so SIGINT is ignored here: the parent decides, and
    sends SIGTERM. An unexpected error is written to the file `errors`, and the exit code is not 0.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        with position.written(workload, experiment) as listener:
            record_experiment(workload, experiment, listener, stamp)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)  # end without a traceback; the exit status says why
    except UsageError as error:
        errors.write_text(str(error), encoding="utf-8")
        sys.exit(USAGE_ERROR)
    except Exception:
        errors.write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)


def _stop_with_parent() -> None:
    """Stop when the parent ends: if it is killed it cannot stop its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_STOP)
    os._exit(1)


def _share(dataset: Dataset) -> None:
    """Move the data to shared memory: all workers use one copy."""
    tensors = [value for value in vars(dataset).values() if isinstance(value, Tensor)]
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except RuntimeError as error:
        needed = sum(tensor.nbytes for tensor in tensors)
        raise UsageError(
            f"--jobs: the {needed / 1e6:.0f} MB of data do not fit into this machine's shared "
            "memory: give it more (a container: docker run --shm-size 1g), or leave out --jobs"
        ) from error


def _how_it_died(exit_code: int) -> str:
    if exit_code > 0:
        return f"the worker process died (exit code {exit_code})"
    name = signal.Signals(-exit_code).name
    hint = ": the system may have run out of memory" if name == "SIGKILL" else ""
    return f"the worker process died (signal {-exit_code}, {name}){hint}"
