"""Run experiments on a Ray cluster, a task for each. The only file that knows Ray, and imported
only when somebody asks for it.

The driver, the process of the command line, submits the tasks and writes what is the suite's. A
task works in the folder of results where its machine sees it: locks, checkpoints and records are
then as in any other process. Where it does not, it works in a folder of its own, and an actor on
the driver's machine, the desk, holds the lock and keeps the checkpoints for it; the record comes
back with the task's result. Ray starts a task again whose process or machine died, and that finds
the last checkpoint.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

# Ray would print of each worker that died, into the live view.
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench import checkpoint, locks
from bench.elsewhere import Elsewhere
from bench.environment import describe, prepare
from bench.errors import UsageError, unwritable
from bench.experiment import Experiment
from bench.files import remove_parts, write_whole
from bench.progress import Reporter, count
from bench.records import RESULTS, Measurement, Run
from bench.run import write
from bench.sharing import Before, recorded_by_another
from bench.step_costs import measure_step_costs
from bench.worker import SECONDS_TO_STOP, Busy, Ending, Message, Started, Told, ending
from bench.workload import Workload

RETRIES = 10
"""So often a task is started again whose process or machine died."""

SECONDS_TO_CONNECT = 5.0
SECONDS_WITHOUT_MACHINE = 5 * 60.0
"""So long a machine that dies may be the last one that has what a task needs."""


@contextmanager
def connected(say: Callable[[str], None]) -> Iterator["Cluster"]:
    """The cluster at RAY_ADDRESS, or one that runs on this machine, or else one that is started
    here and ends with the context.

    Raises UsageError when there is none, and when it fails inside.
    """
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"--executor ray: there is no cluster ({_line(error)})") from error
    try:
        yield Cluster(say)
    except RayError as error:
        raise UsageError(
            f"the Ray cluster failed ({_line(error)}): the same command goes on from the last "
            "checkpoints"
        ) from error
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Share:
    """What a task needs of a machine, in Ray's words, and with how many threads it computes."""

    resources: Mapping[str, float]
    threads: int

    @classmethod
    def of(cls, device: torch.device, jobs: int) -> "Share":
        """So much that `jobs` tasks share each GPU, or each machine where they compute on CPUs:
        the machine with the fewest. Raises UsageError when there is none."""
        kind = "GPU" if device.type == "cuda" else "CPU"
        machines = [machine for machine in _machines() if machine.get(kind, 0) >= 1]
        if not machines:
            raise UsageError(
                f"--executor ray: no machine of the cluster has a {kind} for a run: start one that "
                f"has (ray start --address=… --num-{kind.lower()}s=…)"
            )
        at_once = [jobs * (int(m["GPU"]) if kind == "GPU" else 1) for m in machines]
        cpus = min(m.get("CPU", 0) / n for m, n in zip(machines, at_once, strict=True))
        gpus = 1 / jobs if kind == "GPU" else 0
        # The whole threads of `--executor local --jobs`, so that the records are the same.
        threads = max(1, min(torch.get_num_threads() // jobs, int(cpus)))
        return cls({"CPU": _part(cpus), "GPU": _part(gpus)}, threads)

    def is_there(self) -> bool:
        """Whether a machine has it, busy or not."""
        return any(
            all(machine.get(name, 0) >= part for name, part in self.resources.items())
            for machine in _machines()
        )

    def remote(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as a task that takes this share. Each has a process of its own: one that
        ends gives back all that it had."""
        cpus, gpus = self.resources["CPU"], self.resources["GPU"]
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=RETRIES)(function)
        return task.remote


class Cluster:
    """The executor. See `executors.Executor`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._environment: Mapping[str, Any] = {}  # of one of its machines

    def find_device(self, name: str) -> torch.device:
        """Ray gives a task its GPU, so that it is every task's first."""
        if name not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {name}: with --executor ray choose auto, cpu or cuda")
        if name == "auto":
            name = "cuda" if any(machine.get("GPU", 0) >= 1 for machine in _machines()) else "cpu"
        device = torch.device("cuda", 0) if name == "cuda" else torch.device("cpu")
        share = Share.of(device, 1)
        self._environment = self._wait_for(share.remote(_describe)(device, share.threads))
        return device

    def device_name(self, device: torch.device) -> str:
        machines = count(len(_machines()), "machine")
        return f"a Ray cluster of {machines} ({self._environment['device_name']})"

    def measure_step_costs(
        self, workload: Workload, experiments: Sequence[Experiment]
    ) -> list[Measurement]:
        """On a whole GPU, or a whole machine, of the cluster."""
        share = Share.of(workload.device, 1)
        return self._wait_for(share.remote(_measure)(workload, experiments, share.threads))

    def run_all(
        self, workload: Workload, experiments: Sequence[Experiment], reporter: Reporter
    ) -> list[Run]:
        workload = replace(workload, results=workload.results.absolute())
        elsewhere = Elsewhere(workload, experiments, reporter)
        with _Tasks(workload, reporter) as tasks:
            while elsewhere.left or tasks.running:
                while experiment := elsewhere.left.take():
                    tasks.start(experiment, elsewhere.left.before[experiment])
                for experiment, message in tasks.messages(locks.SECONDS_BETWEEN_LOOKS):
                    if isinstance(message, Ending) and experiment not in elsewhere.running:
                        # No process of it ever came so far as to say that it runs.
                        there = {**self._environment, "precision": experiment.precision}
                        elsewhere.heard(experiment, Started(there))
                    elsewhere.heard(experiment, message)
        return elsewhere.runs

    def _wait_for(self, task: Any) -> Any:
        """A task's result; what is wrong in it is said in one line."""
        if not ray.wait([task], timeout=SECONDS_TO_CONNECT * 2)[0]:
            self._say("waiting for a machine of the cluster that is free")
        try:
            return ray.get(task)
        except RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from error
            raise UsageError(
                f"--executor ray: a machine of the cluster cannot run this: {_line(error)}"
            ) from error


class _Tasks:
    """A context in which tasks run: when it ends, so do they. running: the experiment of each."""

    def __init__(self, workload: Workload, reporter: Reporter) -> None:
        self.running: dict[Any, Experiment] = {}
        self._workload = workload
        self._reporter = reporter
        self._share = Share.of(workload.device, workload.jobs)
        self._task = self._share.remote(_run)
        self._token = workload.folder / locks.LOCKS / f"seen-{uuid4().hex}"
        self._seen = time.monotonic()
        self._said = False

    def __enter__(self) -> "_Tasks":
        try:
            write_whole(self._token, b"")
        except OSError as error:
            raise unwritable(str(self._token), error) from error
        self._given = ray.put(self._workload)  # once, with the data
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        few = replace(self._workload, dataset=self._workload.dataset.subset(1, 1))
        self._desk = ray.remote(num_cpus=0, scheduling_strategy=here)(_Desk).remote(few)
        return self

    def start(self, experiment: Experiment, before: Before) -> None:
        share, token = self._share, self._token
        task = self._task(
            self._given, experiment, before, share.threads, sys.argv, token, self._desk
        )
        self.running[task] = experiment

    def messages(self, seconds: float) -> Iterator[tuple[Experiment, Message]]:
        """Waits, no longer than so many seconds, for a task to end; then all that was told.

        Raises UsageError where no machine has had what a task needs for a while.
        """
        ended: list[Any] = []
        if self.running:
            ended, _ = ray.wait([*self.running], timeout=seconds)
            self._check_machines()
        else:
            time.sleep(seconds)
        yield from ray.get(self._desk.messages.remote())
        for task in ended:
            experiment = self.running.pop(task)
            yield experiment, self._ending(experiment, task)

    def _ending(self, experiment: Experiment, task: Any) -> Ending:
        """How the task ended. The record that comes back from where the folder of results is not
        seen is written here."""
        ending: Ending
        try:
            ending, is_away = ray.get(task)
        except RayError as error:
            ending, is_away = f"Ray gave it up after {RETRIES} retries: {_line(error)}", False
        if is_away and isinstance(ending, Run):
            write(self._workload, ending)
            if ending.status in RESULTS:
                folder = self._workload.folder / experiment.name
                (folder / checkpoint.NAME).unlink(missing_ok=True)
        ray.get(self._desk.end.remote(experiment))
        return ending

    def _check_machines(self) -> None:
        now = time.monotonic()
        if self._share.is_there():
            self._seen = now
            self._said = False
            return
        needs = ", ".join(f"{part:g} {name}" for name, part in self._share.resources.items())
        if now - self._seen > SECONDS_WITHOUT_MACHINE:
            raise UsageError(
                f"no machine of the cluster has what a run needs ({needs}): start one, and give "
                "the same command again, which goes on from the last checkpoints"
            )
        if not self._said:
            self._said = True
            self._reporter.note(
                f"no machine of the cluster has what a run needs ({needs}): waiting for one for "
                f"{SECONDS_WITHOUT_MACHINE / 60:.0f} minutes"
            )

    def __exit__(self, *error: object) -> None:
        tasks = [*self.running]
        try:
            for task in tasks:
                ray.cancel(task)  # Ctrl-C for those that run
            if tasks:
                ray.wait(tasks, num_returns=len(tasks), timeout=SECONDS_TO_STOP)
        finally:  # they had their time, or Ctrl-C came a second time
            for task in tasks:
                ray.cancel(task, force=True)
            ray.kill(self._desk)
            self._token.unlink(missing_ok=True)


class _Desk:
    """Lives in a process on the driver's machine, which sees the folder of results. Holds what the
    tasks tell until the driver asks, and does in the folder what those cannot that do not see it.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._told: list[tuple[Experiment, Message]] = []
        self._held: dict[Experiment, ExitStack] = {}

    def tell(self, experiment: Experiment, message: Message) -> None:
        self._told.append((experiment, message))

    def messages(self) -> list[tuple[Experiment, Message]]:
        """What was told since the last time."""
        told, self._told = self._told, []
        return told

    def begin(
        self, experiment: Experiment, before: Before
    ) -> Busy | Run | UsageError | bytes | None:
        """Lock the experiment for one that does not see the folder; returns its checkpoint where
        there is one, or why it is not to be run."""
        folder = self._workload.folder
        try:
            if experiment not in self._held:
                with ExitStack() as lock:
                    if not lock.enter_context(locks.claim(folder, experiment.name)):
                        return Busy()
                    self._held[experiment] = lock.pop_all()
            remove_parts(folder / experiment.name)
            other = recorded_by_another(self._workload, experiment, before)
        except UsageError as error:
            return error
        with suppress(FileNotFoundError):
            return other or (folder / experiment.name / checkpoint.NAME).read_bytes()
        return None

    def keep(self, experiment: Experiment, name: str, content: bytes) -> UsageError | None:
        """Write a file of an experiment that `begin` locked; returns why that cannot be."""
        file = self._workload.folder / experiment.name / name
        try:
            write_whole(file, content)
        except OSError as error:
            return unwritable(str(file), error)
        return None

    def end(self, experiment: Experiment) -> None:
        """Release the lock, where there is one."""
        with self._held.pop(experiment, ExitStack()):
            pass


def _run(
    workload: Workload,
    experiment: Experiment,
    before: Before,
    threads: int,
    arguments: list[str],
    token: Path,
    desk: Any,
) -> tuple[Ending, bool]:
    """The task: run the experiment and return how it ended, and whether its record is still to be
    written. The token is seen where the folder of results is."""

    def ask(method: Any, *given: Any) -> Any:
        try:
            # Not with ray.get: while that waits, Ray lends the task's CPUs to another one.
            return method.remote(*given).future().result()
        except RayError:  # nobody listens any more
            raise KeyboardInterrupt from None

    sys.argv[:] = arguments  # what the record says the command was
    torch.set_num_threads(threads)
    prepare(experiment.precision)
    told = Told(lambda message: ask(desk.tell, experiment, message))
    told.tell(Started(describe(workload.device, experiment.precision)))
    if token.exists():
        ask(desk.end, experiment)  # where an earlier try was made on a machine that did not see it
        return ending(workload, experiment, told, before), False
    found = ask(desk.begin, experiment, before)
    if isinstance(found, Busy | Run | UsageError):
        return found, False

    def carry(file: Path) -> None:
        error = ask(desk.keep, experiment, file.name, file.read_bytes())
        if error is not None:
            raise error

    with TemporaryDirectory(prefix="anode-bench-") as results:
        away = replace(workload, results=Path(results))
        if found is not None:
            write_whole(away.folder / experiment.name / checkpoint.NAME, found)
        return ending(away, experiment, told, None, carry), True


def _describe(device: torch.device, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return describe(device)


def _measure(
    workload: Workload, experiments: Sequence[Experiment], threads: int
) -> list[Measurement]:
    torch.set_num_threads(threads)
    prepare(experiments[0].precision)
    return measure_step_costs(workload, experiments)


def _machines() -> list[Mapping[str, float]]:
    """What each machine of the cluster has, busy or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _part(number: float) -> float:
    """As much of it as Ray can give: whole ones, or ten-thousandths of one."""
    return int(number) if number >= 1 else int(number * 10_000) / 10_000


def _check_address(address: str) -> None:
    """Raises UsageError where nobody answers: Ray itself would try for ten minutes."""
    if address.startswith("ray://"):
        raise UsageError(
            f"RAY_ADDRESS={address}: give the command on a machine of the cluster, and HOST:PORT"
        )
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"RAY_ADDRESS={address}: no cluster answers there ({error}): start one (ray start "
            "--head), or unset RAY_ADDRESS to use this machine alone"
        ) from error


def _line(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    error = getattr(error, "cause", None) or error
    return f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"
