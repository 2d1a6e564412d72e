"""Run experiments in processes of their own, several at once.

One process for each experiment, not a pool of processes that live on. A process that the system
kills then takes one experiment with it, where `concurrent.futures` would declare its whole pool
broken; and a process that ends gives back all its memory, on a GPU the context of CUDA too. Some
seconds of importing PyTorch are little against a training run. For the same reason each process
has a pipe of its own: in a queue shared by all, one that is killed while it writes would leave the
lock locked.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch
import torch.multiprocessing  # has a process take over tensors without copying them
from torch import Tensor

from bench import environment
from bench.context import Workload
from bench.data import Dataset
from bench.errors import UsageError, free_memory
from bench.execution.elsewhere import Elsewhere
from bench.execution.work_queue import Before
from bench.execution.worker import SECONDS_TO_STOP, Ending, Message, Started, work
from bench.experiment import Experiment
from bench.records import Run, locks
from bench.reporting.progress import Reporter


def run_all(workload: Workload, experiments: Sequence[Experiment], reporter: Reporter) -> list[Run]:
    """Run and record the experiments, workload.jobs at once; returns the runs in that order.

    A worker that dies leaves a run that failed, which the same command tries again; to try it at
    once would be to run out of the host's memory a second time. Raises UsageError when a record
    cannot be written. Whatever is raised, Ctrl-C included, no worker is left behind.
    """
    _share(workload.dataset)
    free_memory(workload.device)  # this process has measured, and its workers need the room
    elsewhere = Elsewhere(workload, experiments, reporter)
    left = elsewhere.left
    with _threads_divided(workload.jobs) as threads, _Workers(workload, threads) as workers:
        while left or workers.running:
            while len(workers.running) < workload.jobs and (experiment := left.take()):
                workers.start(experiment, left.before[experiment])
                elsewhere.heard(experiment, Started())
            for experiment, message in workers.messages(
                locks.SECONDS_BETWEEN_LOOKS if left else None
            ):
                elsewhere.heard(experiment, message)
    return elsewhere.runs


@dataclass
class _Worker:
    """A process and the end of its pipe at which its messages arrive. has_ended: whether it told
    how its experiment ended."""

    experiment: Experiment
    process: SpawnProcess
    pipe: Connection
    has_ended: bool = False

    def receive(self) -> Message | None:
        """The next message, or None when there will be no more: the process has ended."""
        try:
            message: Message = self.pipe.recv()
            self.has_ended = isinstance(message, Ending)
            return message
        except (EOFError, OSError):  # at the end of the pipe, or in the middle of a message
            self.pipe.close()
            self.process.join()
            return None


class _Workers:
    """A context in which workers run: when it ends, so do they."""

    def __init__(self, workload: Workload, threads: int) -> None:
        self.running: list[_Worker] = []
        self._workload = workload
        self._threads = threads

    def start(self, experiment: Experiment, before: Before) -> None:
        context = get_context("spawn")  # a forked process could not use CUDA
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(
            target=work,
            args=(sending, self._workload, experiment, before, self._threads),
            daemon=True,  # is ended with this process whatever happens in here
        )
        try:
            with _interrupt_blocked():
                process.start()
                self.running.append(_Worker(experiment, process, receiving))
        except OSError as error:
            raise UsageError(
                f"cannot start a process for {experiment.name} ({error.strerror}): "
                "use fewer --jobs; the same command goes on with the rest"
            ) from error
        finally:
            sending.close()  # the worker's copy is now the only one, and closed when it ends

    def messages(self, seconds: float | None) -> Iterator[tuple[Experiment, Message]]:
        """Waits, no longer than so many seconds, for a message, or for a worker to end. One that
        died has not told how its experiment ended: that is said here."""
        ready = wait([worker.pipe for worker in self.running], seconds)
        for worker in [worker for worker in self.running if worker.pipe in ready]:
            message = worker.receive()
            if message is not None:
                yield worker.experiment, message
                continue
            self.running.remove(worker)
            if not worker.has_ended:
                yield worker.experiment, _how_it_died(worker.process.exitcode)

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            for worker in self.running:
                worker.process.terminate()
            until = time.monotonic() + SECONDS_TO_STOP
            for worker in self.running:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:  # they had their time, or Ctrl-C came a second time
            for worker in self.running:
                worker.process.kill()
                worker.process.join()


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """A process that is started inside has SIGINT blocked: see `worker`."""
    # It is a process too, started with the first of ours, and would unblock the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _threads_divided(jobs: int) -> Iterator[int]:
    """Each worker's number of threads, which is this process's too as long as they run, so that
    it stands in the record that this process writes of a worker that died."""
    # By jobs, not by how many run: the same until the last run.
    number = max(1, torch.get_num_threads() // jobs)
    with environment.threads(number):
        yield number


def _share(dataset: Dataset) -> None:
    """Move the data to shared memory, where all workers see it: there is one copy of it."""
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


def _how_it_died(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"the worker process died (exit code {exit_code})"
    number = -exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    hint = ": the system may have run out of memory" if number == signal.SIGKILL else ""
    return f"the worker process died (signal {number}, {name}){hint}"
