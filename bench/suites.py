"""Every suite, declared as data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

from bench.experiment import Experiment
from bench.studies.cost.study import CostStudy
from bench.studies.gradients import GradientStudy
from bench.studies.growth import GrowthStudy
from bench.studies.low_precision import LowPrecisionStudy
from bench.studies.memory import MemoryStudy
from bench.studies.ode_gradients import OdeGradientStudy
from bench.studies.reversibility import ReversibilityStudy
from bench.studies.study import FOUR_NETWORKS, OPTIONS, Study
from solvers import METHODS
from solvers.registry import Registry

THREE_GRADIENTS = ("baseline", "node", "anode")
PROTOCOL = (
    *("num_classes", "num_epochs", "batch_size", "lr", "train_images", "test_images"),
    *("probe_images", "precision"),
)
"""The fields that a suite and all its experiments share."""


@dataclass(frozen=True)
class Suite:
    """A named list of experiments: every network × method × Nt × seed × gradient method.

    left_out: pairs of method and Nt that are not run, unless both are asked for. generated: use
    generated images unless a data folder is given. The other fields are those of Experiment.
    """

    name: str
    description: str
    networks: tuple[str, ...] = FOUR_NETWORKS
    methods: tuple[str, ...] = ("rk2",)
    n_steps: tuple[int, ...] = (2,)
    left_out: tuple[tuple[str, int], ...] = ()
    gradients: tuple[str, ...] = THREE_GRADIENTS
    seeds: tuple[int, ...] = (0,)
    num_classes: int = 10
    num_epochs: int = 350
    batch_size: int = 256
    lr: float = 0.1
    train_images: int | None = None
    test_images: int | None = None
    probe_images: int = 32
    precision: str = "float32"
    generated: bool = False

    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **OPTIONS,
        "seeds": ("seeds",),
        **{name: (name,) for name in PROTOCOL if name not in ("num_classes", "probe_images")},
    }
    """Option of the command line → the fields that it replaces."""

    def replaced(self, **overrides: Any) -> "Suite":
        """This suite with other values. Asking for methods and Nt runs what is left out as well."""
        if {"methods", "n_steps"} <= overrides.keys():
            overrides["left_out"] = ()
        return replace(self, **overrides)

    def experiments(self) -> tuple[Experiment, ...]:
        """The suite's runs, each once, one seed after another; compared runs follow one another.

        A baseline has no method and no Nt, so all of those share one. Raises ValueError, which says
        what to do, for a name or combination that cannot be used.
        """
        protocol = {name: getattr(self, name) for name in PROTOCOL}
        found = [
            Experiment(network, gradient, method, n_steps, seed, **protocol)
            for seed, network, method, n_steps, gradient in product(
                self.seeds, self.networks, self.methods, self.n_steps, self.gradients
            )
            if (METHODS.canonical(method), n_steps) not in self.left_out
        ]
        return tuple(dict.fromkeys(found))


def _is_no_suite(entry: object) -> str | None:
    return None if isinstance(entry, Suite | Study) else "it is not a suite"


SUITES: Registry[Suite | Study] = Registry(
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
                "cifar10-short",
                "CIFAR-10, the published protocol with a tenth of the epochs, three seeds",
                methods=("euler", "rk2"),
                n_steps=(1, 2),
                left_out=(("rk2", 1),),
                seeds=(0, 1, 2),
                num_epochs=35,
            ),
            Suite(
                "cifar10",
                "CIFAR-10, the published protocol: 350 epochs, Euler and RK2, five seeds",
                methods=("euler", "rk2"),
                n_steps=(1, 2),
                left_out=(("rk2", 1),),
                seeds=(0, 1, 2, 3, 4),
            ),
            Suite(
                "cifar100",
                "CIFAR-100, ResNet-18 with Euler: Figure 5 of the ANODE paper",
                networks=("resnet18",),
                methods=("euler",),
                num_classes=100,
            ),
            GradientStudy(
                "gradients",
                "gradient error of every gradient method without training: Nt, blocks, activation",
            ),
            OdeGradientStudy(
                "ode-gradients",
                "discrete and continuous gradients against that of the ODE; parts of their "
                "difference",
            ),
            LowPrecisionStudy(
                "low-precision",
                "gradients in bfloat16, float16 and TF32 against float64: error, memory, time",
            ),
            MemoryStudy(
                "memory",
                "peak memory of a training step against Nt and blocks, every gradient method",
            ),
            CostStudy(
                "cost", "time and memory of a training step, every gradient method and peer in turn"
            ),
            GrowthStudy(
                "growth",
                "time and memory of a training step against Nt, batch size and width, with slopes",
            ),
            ReversibilityStudy(
                "reversibility",
                "error of solutions that are solved backward in time: Figures 1 and 7 and §III of "
                "the ANODE paper",
            ),
        )
    },
    check=_is_no_suite,
    own="package.module:Object, or as a file NAME.toml",
)
DEFAULT_SUITE = "smoke"
