"""One training run, fully described."""

import math
from dataclasses import dataclass, fields

import models
import solvers
from bench.plugins import resolving
from bench.records.files import distinct_name

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
LR_DROP = 0.1
PUBLISHED_EPOCHS = 350
PUBLISHED_DROPS = (150, 250)

PRECISIONS = ("float32", "tf32", "bfloat16")
"""float32: no TF32 anywhere. tf32: float32, but convolutions and matrix products on CUDA use ten
bits of mantissa. bfloat16: autocast; weights and states stay float32."""


@dataclass(frozen=True)
class Experiment:
    """A network trained with one gradient method. The defaults are the published protocol.

    lr: initial learning rate. train_images, test_images: None is the whole data set. probe_images:
    size of the fixed batch on which the gradient error is measured. Names are stored as registered;
    a baseline has method "euler" and one step, since its blocks are z + f(z). Raises ValueError,
    which says what to do, for a value that makes no sense.
    """

    network: str
    gradient: str
    method: str
    n_steps: int
    seed: int = 0
    num_classes: int = 10
    num_epochs: int = PUBLISHED_EPOCHS
    batch_size: int = 256
    lr: float = 0.1
    train_images: int | None = None
    test_images: int | None = None
    probe_images: int = 32
    precision: str = "float32"

    def __post_init__(self) -> None:
        with resolving(self.network, self.method, self.gradient):
            self._resolve_names()
        for name in ("num_classes", "num_epochs", "batch_size", "probe_images"):
            _at_least(name, getattr(self, name), 1)
        for name in ("train_images", "test_images"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        _at_least("seed", self.seed, 0)
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}: choose from {', '.join(PRECISIONS)}"
            )
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a positive number, not {self.lr}")

    def _resolve_names(self) -> None:
        self._put("network", models.NETWORKS.canonical(self.network))
        self._put("method", solvers.METHODS.canonical(self.method))
        if self.gradient.lower() == models.BASELINE:
            self._put("gradient", models.BASELINE)
            solvers.check(self.method, self.n_steps, "backprop")
            self._put("method", "euler")
            self._put("n_steps", 1)
        else:
            self._put("gradient", _gradient_name(self.gradient))
            solvers.check(self.method, self.n_steps, self.gradient)
        models.NETWORKS.resolve(self.network)

    def _put(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    @property
    def is_baseline(self) -> bool:
        return self.gradient == models.BASELINE

    @property
    def name(self) -> str:
        """A stable and unique folder name, with the values that differ from the published
        protocol."""
        if self.is_baseline:
            parts = [self.network, self.gradient]
        else:
            parts = [self.network, self.method, f"nt{self.n_steps}", self.gradient]
        parts.append(f"seed{self.seed}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _NAME_PARTS and value != field.default:
                parts.append(f"{_NAME_PARTS[field.name]}{value}")
        return distinct_name(*parts)

    @property
    def lr_drops(self) -> tuple[int, ...]:
        """Epochs after which the rate is divided by ten: the published fractions of the run."""
        return tuple(math.ceil(self.num_epochs * d / PUBLISHED_EPOCHS) for d in PUBLISHED_DROPS)


_NAME_PARTS = {
    "num_classes": "classes",
    "num_epochs": "epochs",
    "batch_size": "batch",
    "lr": "lr",
    "train_images": "train",
    "test_images": "test",
    "probe_images": "probe",
    "precision": "",
}


def _gradient_name(spec: str) -> str:
    try:
        return solvers.GRADIENTS.canonical(spec)
    except ValueError as error:
        raise ValueError(
            str(error).replace("choose from ", f"choose from {models.BASELINE}, ")
        ) from None


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
