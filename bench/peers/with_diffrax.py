"""diffrax, on the right-hand side translated to JAX."""

import os
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.utils.dlpack
from torch import Tensor

from bench.peers.butcher import butcher
from bench.peers.extra import package
from bench.peers.jax_layers import Layer, evaluate, translate
from solvers import METHODS, RightHandSide, Tableau
from solvers.methods import EULER, RK2
from solvers.proof import first_order


class Problem(NamedTuple):
    """A problem to solve, without its tensors."""

    layers: tuple[Layer, ...]
    tableau: Tableau
    n_steps: int


@dataclass(frozen=True)
class Diffrax:
    """A fixed-step solve by diffrax, compiled by XLA, with one of its adjoints.

    For comparing costs alone: BatchNorm's running statistics are not updated. Channels-last tensors
    are passed without a copy; what JAX returns is its own memory, not to be changed in place.
    Layers are compiled for every shape. XLA has PyTorch's number of threads, of which jaxlib 0.10
    uses one for a convolution.

    Source: Kidger, "On Neural Differential Equations", 2021; docs.kidger.site/diffrax.
    """

    name: str
    adjoint: str
    reproduces: str
    outside_torch: bool = True
    _compiled: dict[Hashable, Callable[..., Any]] = field(default_factory=dict, repr=False)
    _seconds: list[float] = field(default_factory=list, repr=False)

    def check(self, method: str | Tableau, n_steps: int) -> None:
        """Raise ValueError when diffrax is not installed."""
        # XLA reads it at its first use, and would take all cores. It has no option for that.
        os.environ.setdefault("NPROC", str(torch.get_num_threads()))
        # Of a CUDA device's memory it would take three quarters at once.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        package("diffrax")

    @property
    def compile_seconds(self) -> float:
        """Seconds of tracing and compilation since `forget` was called."""
        return sum(self._seconds)

    def forget(self) -> None:
        """Drop what is compiled."""
        self._compiled.clear()
        self._seconds.clear()

    def solve(self, rhs: RightHandSide, z0: Tensor, method: str | Tableau, n_steps: int) -> Tensor:
        layers, tensors = translate(rhs)
        problem = Problem(layers, METHODS.resolve(method), n_steps)
        z1: Tensor = _Solve.apply(self, problem, z0, *tensors)
        return z1

    def forward(self, problem: Problem, arrays: tuple[Any, ...]) -> tuple[Any, Any]:
        """z(1), and the function that takes its gradient back to those of the arrays."""
        jax = package("jax")

        def pulled(z: Any, *tensors: Any) -> Any:
            return jax.vjp(
                lambda z, tensors: _solved(problem, self.adjoint, z, tensors), z, tensors
            )

        return self._run(("forward", problem), pulled, arrays)

    def backward(self, problem: Problem, pullback: Any, gradient: Any) -> tuple[Any, ...]:
        """The gradients of the arrays."""
        of_state, of_tensors = self._run(
            ("backward", problem), lambda pull, gradient: pull(gradient), (pullback, gradient)
        )
        return (of_state, *of_tensors)

    def _run(self, what: Hashable, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        jax = package("jax")
        kinds = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(given))
        if (what, kinds) not in self._compiled:
            started = time.perf_counter()
            self._compiled[what, kinds] = jax.jit(function).lower(*given).compile()
            self._seconds.append(time.perf_counter() - started)
        # Wait: it reads PyTorch's parameters, which the optimiser changes next.
        return jax.block_until_ready(self._compiled[what, kinds](*given))


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, peer: Diffrax, problem: Problem, *tensors: Tensor) -> Tensor:
        with _precision(tensors[0]):
            z1, ctx.pullback = peer.forward(problem, tuple(_to_jax(t) for t in tensors))
        ctx.peer, ctx.problem = peer, problem
        return _to_torch(z1)

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with _precision(gradient):
            found = ctx.peer.backward(ctx.problem, ctx.pullback, _to_jax(gradient))
        wanted = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(_to_torch(g) if w else None for g, w in zip(found, wanted, strict=True)),
        )


def _solved(problem: Problem, adjoint: str, z: Any, tensors: Any) -> Any:
    diffrax = package("diffrax")
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, z, tensors: evaluate(problem.layers, tensors, z)),
        _scheme(problem.tableau),
        t0=0.0,
        t1=1.0,
        dt0=1 / problem.n_steps,
        y0=z,
        args=tensors,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.ConstantStepSize(),
        adjoint=getattr(diffrax, adjoint)(),
        max_steps=problem.n_steps,
        throw=False,  # nothing can fail, and looking costs time
    )
    return solution.ys[0]


@lru_cache
def _scheme(tableau: Tableau) -> Any:
    """diffrax's own scheme where it has one, else one made from our tableau as documented."""
    diffrax, numpy = package("diffrax"), package("numpy")
    if tableau in (EULER, RK2):
        return diffrax.Euler() if tableau == EULER else diffrax.Midpoint()
    c, a, b = butcher(tableau)
    coefficients = diffrax.ButcherTableau(
        a_lower=tuple(numpy.array(row) for row in a[1:]),
        b_sol=numpy.array(b),
        b_error=numpy.zeros(len(b)),
        c=numpy.array(c[1:]),
    )

    abstract: Any = diffrax.AbstractERK

    class Scheme(abstract):
        tableau = coefficients
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms: Any) -> int:
            return tableau.order

    return Scheme()


@contextmanager
def _precision(tensor: Tensor) -> Iterator[None]:
    """Have JAX compute in float64, and float32 without TF32: neither is its default."""
    jax = package("jax")
    products = "tensorfloat32" if torch.backends.cudnn.allow_tf32 else "highest"
    is_double = tensor.dtype == torch.float64
    with jax.enable_x64(is_double), jax.default_matmul_precision(products):
        yield


def _to_jax(tensor: Tensor) -> Any:
    tensor = tensor.detach()
    if tensor.dim() == 4:
        tensor = tensor.permute(0, 2, 3, 1)
    return package("jax.dlpack").from_dlpack(tensor.contiguous())


def _to_torch(array: Any) -> Tensor:
    tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor


RECURSIVE = Diffrax("diffrax-recursive", "RecursiveCheckpointAdjoint", reproduces="backprop")
BACKSOLVE = Diffrax("diffrax-backsolve", "BacksolveAdjoint", reproduces="node")
