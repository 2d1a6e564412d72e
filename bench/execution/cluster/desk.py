"""What tasks tell, and what they have done for them, on the machine that has the results."""

from contextlib import ExitStack, suppress

from bench.context import Workload
from bench.errors import UsageError, unwritable
from bench.execution.work_queue import Before, recorded_by_another
from bench.execution.worker import Busy, Message
from bench.experiment import Experiment
from bench.records import Run, locks
from bench.records.files import remove_parts, write_whole
from bench.training import checkpoint


class Desk:
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
