"""A training step to be measured: it trains a network that is thrown away."""

from collections.abc import Callable

from bench.context import Workload
from bench.environment import memory_format_of
from bench.experiment import Experiment
from bench.training import cuda_graph
from bench.training.cuda_graph import CapturedStep
from bench.training.network import MEMORY_FORMATS, build_network, make_optimizer
from bench.training.step import TrainingStep


class MeasuredStep:
    """Call it to take a training step, always on the same batch, with a network of its own.

    memory_format: of `network.MEMORY_FORMATS`; None is that of training. is_captured: replay the
    step as a CUDA graph where that is possible; such a step has no phases.
    """

    def __init__(
        self,
        workload: Workload,
        experiment: Experiment,
        batch_size: int,
        memory_format: str | None = None,
        is_captured: bool = False,
    ) -> None:
        self.images, self.labels = workload.fixed_batch(batch_size)
        memory_format = memory_format or memory_format_of(workload.device)
        self.images = self.images.contiguous(memory_format=MEMORY_FORMATS[memory_format])
        self.network = build_network(experiment, workload.device, memory_format)
        self.optimizer = make_optimizer(self.network, experiment)
        self._step = TrainingStep(self.network, self.optimizer)
        self._captured: CapturedStep | None = None
        if is_captured and cuda_graph.obstacle(self.network, workload.device) is None:
            reads_constants = cuda_graph.reads_constants(self.network)
            self._captured = CapturedStep(
                self._step, self.optimizer, reads_constants=reads_constants
            )
            for _ in range(cuda_graph.EAGER_STEPS + 1):
                self._captured(self.images, self.labels)

    @property
    def is_captured(self) -> bool:
        return self._captured is not None and self._captured.reason is None

    @property
    def capture_failure(self) -> str | None:
        """Why the step could not be captured although the gradient method allows it; else None."""
        return self._captured.reason if self._captured else None

    def __call__(self, on_phase_end: Callable[[str], None] = lambda phase: None) -> None:
        if self._captured is not None:
            self._captured(self.images, self.labels)
        else:
            self.eagerly(on_phase_end)

    def eagerly(self, on_phase_end: Callable[[str], None] = lambda phase: None) -> None:
        """Take the step in Python, also where it is captured."""
        self._step(self.images, self.labels, on_phase_end)

    @property
    def evaluations(self) -> tuple[int, int]:
        """Evaluations of the right-hand sides in the last eager step: forward, backward."""
        return self._step.evaluations
