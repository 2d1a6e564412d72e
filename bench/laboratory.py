"""Gradient errors of networks that are not being trained: the suite `gradients` and its gate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

import models
import solvers
from bench import gradient_error
from bench.data import Dataset, DeviceData, evaluation_batches, train_batches
from bench.records import GradientRow

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
SEED = 0
TRAINING_IMAGES, TRAINING_BATCH = 640, 32


@dataclass(frozen=True)
class GradientCase:
    """One network, one gradient method. weights is "initial", or "trained" for those after one
    epoch by backprop on 640 images, the same for every gradient method.

    Raises ValueError, saying what to do, for what cannot be used.
    """

    network: str
    method: str
    n_steps: int
    gradient: str
    precision: str = "float64"
    weights: str = "initial"

    def __post_init__(self) -> None:
        for field, registry in (
            ("network", models.NETWORKS),
            ("method", solvers.METHODS),
            ("gradient", solvers.GRADIENTS),
        ):
            object.__setattr__(self, field, registry.canonical(getattr(self, field)))
        solvers.check(self.method, self.n_steps, self.gradient)


class Laboratory:
    """Measures cases on the first `images` images of a data set, the classes in turn."""

    def __init__(self, dataset: Dataset, device: torch.device, images: int) -> None:
        self._device = device
        self._data = DeviceData.of(dataset.subset(TRAINING_IMAGES, 1), device)
        self._pixels, self._labels = next(
            evaluation_batches(self._data.train_images, self._data.train_labels, images)
        )
        self._trained: dict[str, dict[str, Tensor]] = {}

    def measure(self, case: GradientCase) -> list[GradientRow]:
        """The rows of a case: the whole gradient, each block's, each block's input's, and the
        BatchNorm statistics."""
        network = _network(case, self._device)
        if case.weights == "trained":
            if case.network not in self._trained:
                self._trained[case.network] = _trained_weights(case.network, self._data)
            network.load_state_dict(self._trained[case.network])
        pixels = self._pixels.to(PRECISIONS[case.precision])
        return _rows(case, gradient_error.measure(network, pixels, self._labels), self._device)


def _network(case: GradientCase, device: torch.device) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = models.build(
            case.network, method=case.method, n_steps=case.n_steps, gradient=case.gradient
        )
    return network.to(device, PRECISIONS[case.precision])


def _trained_weights(network: str, data: DeviceData) -> dict[str, Tensor]:
    """After a few steps of plain SGD by backprop on RK2 with two steps."""
    device = data.train_images.device
    case = GradientCase(network, "rk2", 2, "backprop", precision="float32")
    net = _network(case, device)
    optimizer = SGD(net.parameters(), lr=0.02, momentum=0.9)
    batches = train_batches(data, seed=SEED, epoch=1, batch_size=TRAINING_BATCH)
    for pixels, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(pixels), labels).backward()
        optimizer.step()
    return net.state_dict()


def _rows(
    case: GradientCase, found: gradient_error.GradientError, device: torch.device
) -> list[GradientRow]:
    parts = [
        ("all parameters", found.error, found.cosine),
        *_numbered("block", found.block_errors, found.block_cosines),
        *_numbered("z0 of block", found.state_errors, found.state_cosines),
        ("statistics", found.statistics_error, 1.0),
    ]
    return [
        GradientRow(**asdict(case), device=device.type, part=p, error=e, cosine=c)
        for p, e, c in parts
    ]


def _numbered(
    what: str, errors: Sequence[float], cosines: Sequence[float]
) -> list[tuple[str, float, float]]:
    pairs = zip(errors, cosines, strict=True)
    return [(f"{what} {i}", error, cosine) for i, (error, cosine) in enumerate(pairs, start=1)]
