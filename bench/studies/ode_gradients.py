"""The study `ode-gradients`: discrete and continuous gradients against that of the ODE itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from bench.data import Dataset
from bench.instruments import gradient_error
from bench.records import OdeGradientRow
from bench.studies.gradient_runner import GradientCase, GradientRunner
from bench.studies.study import FOUR_NETWORKS, Study

DEPTH_VARYING = "models.resnet:CHAIN:sets=2"
"""ResNet-4 whose weights in f depend on t."""

LARGEST_CHANGE = {"relu": 1e-3, "leaky_relu": 1e-3}
"""Activation with kinks → by how much, relatively, twice the steps may change the ODE's gradient;
others: 1e-8."""

FEWEST_STEPS, MOST_STEPS = 8, 4096
"""Steps of RK4 for the ODE's gradient: the first number, and the last one if it still changes."""


@dataclass(frozen=True)
class OdeGradientCase:
    """One network and scheme; weights and activation as in GradientCase."""

    network: str
    method: str
    n_steps: int
    weights: str = "initial"
    activation: str = "relu"

    @property
    def name(self) -> str:
        return self.solved_with("node").name

    def __post_init__(self) -> None:
        checked = self.solved_with("node")
        object.__setattr__(self, "network", checked.network)
        object.__setattr__(self, "method", checked.method)

    def solved_with(
        self, gradient: str, method: str | None = None, n_steps: int | None = None
    ) -> GradientCase:
        return GradientCase(
            self.network,
            method or self.method,
            n_steps or self.n_steps,
            gradient,
            weights=self.weights,
            activation=self.activation,
        )


@dataclass(frozen=True)
class OdeGradientStudy(Study):
    """Every network × activation at initial weights, and ReLU at trained ones; then method × Nt.

    In float64 and training mode, on the first `images` images.
    """

    networks: tuple[str, ...] = (*FOUR_NETWORKS, DEPTH_VARYING)
    methods: tuple[str, ...] = ("euler", "rk2", "rk4_38")
    n_steps: tuple[int, ...] = (1, 2, 4, 8)
    activations: tuple[str, ...] = ("relu", "softplus", "tanh", "leaky_relu", "none")
    images: int = 4

    row: ClassVar[type[OdeGradientRow]] = OdeGradientRow
    key: ClassVar[tuple[str, ...]] = tuple(OdeGradientCase.__dataclass_fields__)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "network": ("networks",),
        "method": ("methods",),
        "Nt": ("n_steps",),
    }

    def cases(self) -> tuple[OdeGradientCase, ...]:
        weights = [("initial", "relu"), ("trained", "relu")]
        weights += [("initial", activation) for activation in self.activations]
        found = [
            OdeGradientCase(network, method, n_steps, *kind)
            for kind, network, method, n_steps in product(
                weights, self.networks, self.methods, self.n_steps
            )
        ]
        return tuple(dict.fromkeys(found))

    def runner(self, dataset: Dataset, device: torch.device) -> "OdeGradientRunner":
        return OdeGradientRunner(dataset, device, self.images)


class OdeGradientRunner(GradientRunner):
    """Measures cases; the ODE's gradient is kept for successive cases of one network."""

    _ode: tuple[GradientCase, tuple[Tensor, int, float]] | None = None

    def measure(self, case: OdeGradientCase) -> list[OdeGradientRow]:  # type: ignore[override]
        ode, steps, change = self.of_ode(case)
        discrete, node, grid, stages = (
            self._gradient(case.solved_with(gradient))
            for gradient in ("backprop", "node", "node-grid", "node-stages")
        )
        drift, reconstruction, inconsistency = shares(
            node - discrete, [node - grid, grid - stages, stages - discrete]
        )
        return [
            OdeGradientRow(
                *(case.network, case.method, case.n_steps, case.weights, case.activation),
                device=self._device.type,
                discrete=_relative(discrete - ode, ode),
                continuous=_relative(node - ode, ode),
                difference=_relative(node - discrete, ode),
                drift=drift,
                reconstruction=reconstruction,
                inconsistency=inconsistency,
                reference_steps=steps,
                reference_change=change,
            )
        ]

    def of_ode(self, case: OdeGradientCase) -> tuple[Tensor, int, float]:
        """The gradient of the ODE by RK4, its number of steps, and the last change."""
        which = case.solved_with("anode-steps", "rk4", FEWEST_STEPS)
        if self._ode is None or self._ode[0] != which:
            steps, found, change = FEWEST_STEPS, self._gradient(which), float("inf")
            largest = LARGEST_CHANGE.get(case.activation, 1e-8)
            while change > largest and steps < MOST_STEPS:
                steps *= 2
                finer = self._gradient(case.solved_with("anode-steps", "rk4", steps))
                change, found = _relative(finer - found, finer), finer
            self._ode = which, (found, steps, change)
        return self._ode[1]

    def _gradient(self, case: GradientCase) -> Tensor:
        """The gradient in all parameters, as one vector."""
        observed = gradient_error.observe(self._network(case), self._pixels.double(), self._labels)
        return torch.cat([gradient.flatten() for gradient in observed.parameters])


def shares(error: Tensor, parts: list[Tensor]) -> list[float]:
    """⟨part, error⟩ / ‖error‖² of each part; 1 together, where the parts sum to the error."""
    return [float(part @ error / (error @ error)) for part in parts]


def _relative(difference: Tensor, reference: Tensor) -> float:
    return float(difference.norm() / reference.norm())
