"""What each suite runs, declared as data."""

from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from bench.experiment import Experiment
from bench.laboratory import GradientCase
from solvers.registry import Registry

FOUR_NETWORKS = ("alexnet", "resnet4", "resnet10", "squeezenext")
THREE_GRADIENTS = ("baseline", "node", "anode")
ALL_GRADIENTS = (
    *("backprop", "anode", "anode-steps", "anode-revolve", "backprop-torchdiffeq"),
    *("reversible", "node", "node-grid", "node-frozen"),
)
"""All but node-rk45, whose number of evaluations has no bound on networks with kinks."""

TRAINING_FIGURES = ("training", "gradient_error", "cost", "accuracy_table")


@dataclass(frozen=True)
class Suite:
    """A named list of experiments: every network × method × Nt × seed × gradient method.

    generated: whether it uses the generated data set unless a data folder is given. figures name
    entries of plots.FIGURES. The other fields are those of Experiment.
    """

    name: str
    description: str
    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("rk2",)
    n_steps: tuple[int, ...] = (2,)
    gradients: tuple[str, ...] = THREE_GRADIENTS
    seeds: tuple[int, ...] = (0,)
    num_classes: int = 10
    num_epochs: int = 350
    batch_size: int = 256
    lr: float = 0.1
    train_images: int | None = None
    test_images: int | None = None
    probe_images: int = 32
    generated: bool = False
    figures: tuple[str, ...] = TRAINING_FIGURES

    def replaced(self, **overrides: Any) -> "Suite":
        """This suite with the overrides that are not None in place of its own values."""
        return replace(self, **{k: v for k, v in overrides.items() if v is not None})

    def experiments(self) -> tuple[Experiment, ...]:
        """The suite's runs, each once: all of one seed first, those that are compared side by side.

        A baseline has no method and no Nt, so all of those share one. Raises ValueError, saying
        what to do, for a name or a combination that cannot be used.
        """
        names = {field.name for field in fields(Suite)}
        common = {f.name: getattr(self, f.name) for f in fields(Experiment) if f.name in names}
        del common["n_steps"]
        found = {
            experiment.name: experiment
            for seed in self.seeds
            for network in self.networks
            for method in self.methods
            for n_steps in self.n_steps
            for gradient in self.gradients
            for experiment in [
                Experiment(
                    network=network,
                    gradient=gradient,
                    method=method,
                    n_steps=n_steps,
                    seed=seed,
                    **common,
                )
            ]
        }
        return tuple(found.values())


@dataclass(frozen=True)
class GradientSuite:
    """Gradient errors without training: every network × method × Nt × gradient method ×
    precision × weights, on the first `images` generated images.

    check_n_steps: the steps of the fixed set that is compared with the reference, in float64 and
    at initialisation, where the numbers are the same on every machine.
    """

    name: str
    description: str
    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("euler", "rk2", "rk4_38")
    n_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    gradients: tuple[str, ...] = ALL_GRADIENTS
    precisions: tuple[str, ...] = ("float32", "float64")
    weights: tuple[str, ...] = ("initial", "trained")
    images: int = 4
    check_methods: tuple[str, ...] = ("euler", "rk2")
    check_n_steps: tuple[int, ...] = (1, 3)
    figures: tuple[str, ...] = ("gradient_order",)

    def replaced(self, **overrides: Any) -> "GradientSuite":
        """This suite with the overrides that are not None in place of its own values."""
        return replace(self, **{k: v for k, v in overrides.items() if v is not None})

    def cases(self) -> tuple[GradientCase, ...]:
        """All cases. Raises ValueError, saying what to do, for what cannot be used."""
        return tuple(
            GradientCase(*case)
            for case in product(
                self.networks,
                self.methods,
                self.n_steps,
                self.gradients,
                self.precisions,
                self.weights,
            )
        )

    def check_cases(self) -> tuple[GradientCase, ...]:
        """The fixed set of the gate. anode's must be exact in float32 as well."""
        common = (self.networks, self.check_methods, self.check_n_steps)
        return (
            *(GradientCase(*case) for case in product(*common, self.gradients)),
            *(GradientCase(*case) for case in product(*common, ("anode",), ("float32",))),
        )


SUITES: Registry[Suite | GradientSuite] = Registry(
    "suite",
    {
        suite.name: suite
        for suite in (
            Suite(
                "smoke",
                "generated images, a few minutes on two CPU cores: does everything work?",
                num_epochs=4,
                batch_size=64,
                lr=0.02,
                train_images=640,
                test_images=320,
                probe_images=8,
                generated=True,
            ),
            Suite(
                "cifar10-quick",
                "CIFAR-10, 5,000 images and 10 epochs: half an hour on two CPU cores",
                num_epochs=10,
                batch_size=128,
                lr=0.05,
                train_images=5_000,
                test_images=1_000,
            ),
            Suite(
                "cifar10",
                "CIFAR-10, the published protocol: 350 epochs, Euler and RK2, five seeds",
                methods=("euler", "rk2"),
                seeds=(0, 1, 2, 3, 4),
            ),
            Suite(
                "cifar100",
                "CIFAR-100, ResNet-18 with Euler: Figure 5 of the ANODE paper",
                networks=("resnet18",),
                methods=("euler",),
                num_classes=100,
            ),
            GradientSuite(
                "gradients",
                "gradient error against Nt for every gradient method, without training",
            ),
        )
    },
)
DEFAULT_SUITE = "smoke"
