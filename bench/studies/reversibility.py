"""The study `reversibility`: the error of a solution that is solved forward and then backward."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data import Dataset
from bench.instruments import reversal
from bench.instruments.reversal import Reversal, Rhs, State
from bench.records import Picture, ReversalRow
from bench.studies import reversal_problems
from bench.studies.reversal_problems import ACTIVATIONS, CONVOLUTION, PROBLEMS
from bench.studies.study import Runner, Study
from solvers import METHODS

PAIR = "reversible"
"""The pair of solvers/gradients/reversible.py over Euler."""

ADAPTIVE: Mapping[str, float] = {"rk45": 1e-3, "rk45_relative": 0.0}
"""torchdiffeq's dopri5; the value is absolute / relative tolerance.

The first is the ratio of the defaults of MATLAB's ode45 and of SciPy, 1e-3 and 1e-6.
"""

MAX_ADAPTIVE_STEPS = 10_000


@dataclass(frozen=True)
class ReversalCase:
    """One problem, one scheme. n_steps is 0 for an adaptive scheme, tolerance 0 for the others."""

    problem: str
    activation: str
    scheme: str
    n_steps: int = 0
    tolerance: float = 0.0
    precision: str = "float64"
    seed: int = 0

    @property
    def name(self) -> str:
        """The case in a few words."""
        how = f"Nt {self.n_steps}" if self.n_steps else f"tolerance {self.tolerance:g}"
        return (
            f"{self.problem}, {self.activation}, {self.scheme}, {how}, {self.precision}, "
            f"seed {self.seed}"
        )


@dataclass(frozen=True)
class ReversibilityStudy(Study):
    """Every problem × scheme × number of steps, or tolerance.

    The problems of PROBLEMS in float64, some also in float32, as in the paper; the convolution for
    every activation. seeds: of the random matrices; errors vary by a factor of ten between them.
    pictured: cases of the convolution whose images are kept: (scheme, n_steps, tolerance).
    """

    schemes: tuple[str, ...] = ("euler", "rk2", "rk4", PAIR, *ADAPTIVE)
    seeds: tuple[int, ...] = tuple(range(10))
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    image_steps: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200)
    image_digits: tuple[int, ...] = tuple(range(1, 9))
    pictured: tuple[tuple[str, int, float], ...] = (
        ("euler", 1, 0.0),
        ("rk4", 10, 0.0),
        (PAIR, 1, 0.0),
        ("rk45", 0, 0.1),
        ("rk45", 0, 0.001),
    )

    row = ReversalRow
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"method": ("schemes",), "seeds": ("seeds",)}

    def cases(self) -> tuple[ReversalCase, ...]:
        schemes = tuple(dict.fromkeys(canonical(scheme) for scheme in self.schemes))
        return tuple(dict.fromkeys([*self._of_problems(schemes), *self._of_images(schemes)]))

    def runner(self, dataset: Dataset, device: torch.device) -> "ReversalRunner":
        return ReversalRunner(dataset, device, self.pictured)

    def _of_problems(self, schemes: tuple[str, ...]) -> Iterator[ReversalCase]:
        for (name, problem), scheme in product(PROBLEMS.items(), schemes):
            case = ReversalCase(name, problem.activation, scheme)
            for seed in self.seeds if problem.depends_on_seed else (0,):
                if scheme in ADAPTIVE:
                    for digits in problem.digits if scheme in problem.schemes else ():
                        yield replace(case, tolerance=10.0**-digits, seed=seed)
                    continue
                # Euler gets to single precision nowhere, and the pair's rounding is its own topic.
                precisions = ("float64",) if scheme in ("euler", PAIR) else problem.precisions
                largest = problem.n_steps.get(scheme, problem.n_steps[""])
                stated = [n for n in problem.stated if n <= largest]
                for precision, n in product(precisions, sorted({*_sweep(largest), *stated})):
                    yield replace(case, n_steps=n, precision=precision, seed=seed)

    def _of_images(self, schemes: tuple[str, ...]) -> Iterator[ReversalCase]:
        for activation, scheme in product(self.activations, schemes):
            case = ReversalCase(CONVOLUTION, activation, scheme)
            if scheme == "rk45":
                yield from (replace(case, tolerance=10.0**-d) for d in self.image_digits)
            elif scheme not in ADAPTIVE:  # black pixels have no relative tolerance
                yield from (replace(case, n_steps=n) for n in self.image_steps)


def canonical(scheme: str) -> str:
    """The name of a scheme: a fixed-step method's, "reversible", or an adaptive solver's."""
    if scheme == PAIR or scheme in ADAPTIVE:
        return scheme
    try:
        return METHODS.canonical(scheme)
    except ValueError as error:
        raise ValueError(f"{error}; or one of {PAIR}, {', '.join(ADAPTIVE)}") from error


def _sweep(largest: int) -> list[int]:
    """Ten numbers of steps per decade; beyond 10,000, where they are expensive, five."""
    tenths = [*range(41), *range(42, 100, 2)]
    return sorted({n for k in tenths if (n := round(10 ** (k / 10))) <= largest})


class ReversalRunner(Runner):
    """Measures cases, those of the convolution on one test image, and keeps the pictures."""

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        pictured: tuple[tuple[str, int, float], ...] = (),
    ) -> None:
        self._dataset, self._device, self._pictured = dataset, device, pictured
        self._image = _contrasted(dataset).to(device, torch.float64) / 255
        self.pictures: list[Picture] = []

    def measure(self, case: ReversalCase) -> list[ReversalRow]:
        """One row. Small problems are solved in NumPy on the CPU, images on the device."""
        is_image = case.problem == CONVOLUTION
        if is_image:
            rhs: Rhs = reversal_problems.convolution(case.activation, case.seed, self._device)
            z0: State = self._image
        else:
            problem = PROBLEMS[case.problem]
            rhs, z0 = reversal_problems.small(problem, case.precision, case.seed)
        found = _solve(case, rhs, z0)
        if is_image and (case.scheme, case.n_steps, case.tolerance) in self._pictured:
            self._keep(case, found)
        return [
            ReversalRow(
                **{**vars(case), "n_steps": found.n_steps},
                n_steps_back=found.n_steps_backward,
                rho=found.rho,
                status=found.status,
                nfe=found.nfe,
                device=self._device.type if is_image else "cpu",
                data=self._dataset.source if is_image else "none",
                fingerprint=self._dataset.fingerprint if is_image else "none",
            )
        ]

    def _keep(self, case: ReversalCase, found: Reversal) -> None:
        images = (self._image, found.output, found.reconstruction)
        self.pictures.append(
            Picture(
                case.scheme,
                case.activation,
                found.n_steps,
                case.tolerance,
                found.rho,
                f"{self._dataset.source}, fingerprint {self._dataset.fingerprint}",
                *(image[0].cpu().numpy() for image in images),
            )
        )


def _contrasted(dataset: Dataset) -> Tensor:
    """The test image, of a hundred, with the highest contrast between its regions: (1, 3, 32, 32).

    A reader sees whether it is reconstructed.
    """
    pixels = dataset.subset(None, min(100, len(dataset.test_labels))).test_images
    regions = F.avg_pool2d(pixels.double(), 4)
    most = int(regions.flatten(1).std(1).argmax())
    return pixels[most : most + 1]


def _solve(case: ReversalCase, rhs: Rhs, z0: State) -> Reversal:
    if case.scheme in ADAPTIVE:
        absolute = case.tolerance * ADAPTIVE[case.scheme]
        return reversal.adaptive_steps(
            rhs, z0, case.tolerance, absolute, max_steps=MAX_ADAPTIVE_STEPS
        )
    if case.scheme == PAIR:
        return reversal.reversible_pair(rhs, z0, METHODS["euler"], case.n_steps)
    return reversal.fixed_steps(rhs, z0, METHODS.resolve(case.scheme), case.n_steps)
