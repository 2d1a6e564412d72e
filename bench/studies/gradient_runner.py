"""Measure the gradient errors of one network that is not being trained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache

import torch
from torch import Tensor, nn
from torch.optim import SGD

import models
import solvers
from bench.data import Dataset, DeviceData, evaluation_batches, train_batches
from bench.instruments import gradient_error, lipschitz
from bench.records import GradientRow
from bench.studies.study import Runner
from bench.training.step import TrainingStep
from solvers.gradients import reference

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}
SEED = 0
TRAINING_IMAGES, TRAINING_BATCH = 640, 32


@dataclass(frozen=True)
class GradientCase:
    """One network, one gradient method.

    weights is "initial", or "trained" for those after one epoch by backprop on 640 images, the
    same for every gradient method. activation replaces the ReLUs of the right-hand sides. scale
    multiplies weight and bias of each right-hand side's last layer that has them, and so, with
    ReLU behind it, the right-hand side and its Lipschitz constant.

    Raises ValueError, saying what to do, for what cannot be used.
    """

    network: str
    method: str
    n_steps: int
    gradient: str
    precision: str = "float64"
    weights: str = "initial"
    activation: str = "relu"
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The case in a few words."""
        varied = f", {self.activation} × {self.scale:g}" if self.activation != "relu" else ""
        return (
            f"{self.network}, {self.method}, Nt {self.n_steps}, {self.gradient}, "
            f"{self.precision}, {self.weights} weights{varied}"
        )

    def __post_init__(self) -> None:
        for field, registry in (
            ("network", models.NETWORKS),
            ("method", solvers.METHODS),
            ("gradient", solvers.GRADIENTS),
        ):
            object.__setattr__(self, field, registry.canonical(getattr(self, field)))
        solvers.check(self.method, self.n_steps, self.gradient)


class GradientRunner(Runner):
    """Measures cases on the first `images` images of a data set, one class after another."""

    def __init__(self, dataset: Dataset, device: torch.device, images: int) -> None:
        self._device = device
        self._data = DeviceData.of(dataset.subset(TRAINING_IMAGES, 1), device)
        self._pixels, self._labels = next(
            evaluation_batches(self._data.train_images, self._data.train_labels, images)
        )
        # Many cases share these: the constants of a block depend slightly on how the earlier blocks
        # are solved, so they are always those of one scheme.
        self._reference = lru_cache(maxsize=16)(self._observe)
        self._constants = cache(self._lipschitz)
        self._trained = cache(lambda network: _trained_weights(network, self._data))

    def measure(self, case: GradientCase) -> list[GradientRow]:
        """The rows of a case: the whole gradient, that of each block's parameters, that of each
        block's input, and the BatchNorm statistics."""
        network, batch = self._network(case), self._batch(case)
        if getattr(solvers.GRADIENTS.resolve(case.gradient), "learns_from_first_pass", False):
            gradient_error.observe(network, *batch)
        found = gradient_error.compare(
            gradient_error.observe(network, *batch),
            self._reference(replace(case, gradient=reference(case.gradient))),
        )
        constants = self._constants(replace(case, method="rk2", n_steps=2, gradient="backprop"))
        return _rows(case, found, constants, self._device)

    def _observe(self, case: GradientCase) -> gradient_error.Observed:
        return gradient_error.observe(self._network(case), *self._batch(case))

    def _lipschitz(self, case: GradientCase) -> tuple[float, ...]:
        return lipschitz.of_blocks(self._network(case), self._batch(case)[0])

    def _batch(self, case: GradientCase) -> tuple[Tensor, Tensor]:
        return self._pixels.to(PRECISIONS[case.precision]), self._labels

    def _network(self, case: GradientCase) -> nn.Module:
        network = _build(case, self._device)
        if case.weights == "trained":
            network.load_state_dict(self._trained(case.network))
        for block in models.ode_blocks(network):
            _activate(block.rhs, ACTIVATIONS[case.activation])
            _rescale(block.rhs, case.scale)
        return network


def _build(case: GradientCase, device: torch.device) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = models.build(
            case.network, method=case.method, n_steps=case.n_steps, gradient=case.gradient
        )
    return network.to(device, PRECISIONS[case.precision])


def _activate(rhs: nn.Module, activation: type[nn.Module]) -> None:
    for parent in list(rhs.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, activation())


def _rescale(rhs: nn.Module, scale: float) -> None:
    last = [module for module in rhs.modules() if module._parameters][-1]
    with torch.no_grad():
        for parameter in last.parameters(recurse=False):
            parameter.mul_(scale)


def _trained_weights(network: str, data: DeviceData) -> dict[str, Tensor]:
    """The weights after one epoch of plain SGD by backprop, on RK2 with two steps."""
    device = data.train_images.device
    case = GradientCase(network, "rk2", 2, "backprop", precision="float32")
    net = _build(case, device)
    optimizer = SGD(net.parameters(), lr=0.02, momentum=0.9)
    step = TrainingStep(net, optimizer)
    for pixels, labels in train_batches(data, seed=SEED, epoch=1, batch_size=TRAINING_BATCH):
        step(pixels, labels)
    return net.state_dict()


def _rows(
    case: GradientCase,
    found: gradient_error.GradientError,
    constants: Sequence[float],
    device: torch.device,
) -> list[GradientRow]:
    largest = max(constants)
    parts = [
        ("all parameters", found.error, found.cosine, largest),
        *_numbered("block", found.block_errors, found.block_cosines, constants),
        *_numbered("z0 of block", found.state_errors, found.state_cosines, constants),
        ("statistics", found.statistics_error, 1.0, largest),
    ]
    return [
        GradientRow(**asdict(case), device=device.type, part=p, error=e, cosine=c, lipschitz=k)
        for p, e, c, k in parts
    ]


def _numbered(
    what: str, errors: Sequence[float], cosines: Sequence[float], constants: Sequence[float]
) -> list[tuple[str, float, float, float]]:
    # The first block of a network that begins with it has an image for its input: no gradient.
    first = len(constants) - len(errors)
    together = zip(errors, cosines, constants[first:], strict=True)
    return [(f"{what} {i}", *values) for i, values in enumerate(together, start=first + 1)]
