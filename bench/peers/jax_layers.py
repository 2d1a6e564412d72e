"""Translate a right-hand side of torch layers to JAX, on (batch, height, width, channels)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from torch import Tensor, nn

from bench.peers.extra import package
from models.layers import Autonomous


class Layer(Protocol):
    """A layer without its tensors; n_tensors: their number. Hashable, so that compiled code serves
    all networks with the same layers."""

    @property
    def n_tensors(self) -> int: ...
    def __call__(self, z: Any, tensors: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Convolution:
    """Stride 1, zeros around; keeps height and width."""

    padding: tuple[int, int]
    biased: bool

    @property
    def n_tensors(self) -> int:
        return 2 if self.biased else 1

    def __call__(self, z: Any, tensors: Sequence[Any]) -> Any:
        weight, *bias = tensors
        kernel = weight.transpose(1, 2, 3, 0)  # (outputs, h, w, inputs) → (h, w, inputs, outputs)
        z = _convolution(self.padding)(z, kernel)
        return z + bias[0] if bias else z


@dataclass(frozen=True)
class BatchNorm:
    """Normalises with the batch's statistics, or with the running ones where `frozen`. Does not
    update the running ones."""

    epsilon: float
    affine: bool
    frozen: bool

    @property
    def n_tensors(self) -> int:
        return 2 * self.affine + 2 * self.frozen

    def __call__(self, z: Any, tensors: Sequence[Any]) -> Any:
        jax, numpy = package("jax"), package("jax.numpy")
        if self.frozen:
            *tensors, mean, variance = tensors
        else:
            mean = z.mean((0, 1, 2))
            variance = numpy.square(z - mean).mean((0, 1, 2))
        z = (z - mean) * jax.lax.rsqrt(variance + self.epsilon)
        return z * tensors[0] + tensors[1] if self.affine else z


@dataclass(frozen=True)
class Activation:
    """A function of jax.nn with its further arguments."""

    name: str
    arguments: tuple[float, ...] = ()
    n_tensors: int = 0

    def __call__(self, z: Any, tensors: Sequence[Any]) -> Any:
        return getattr(package("jax.nn"), self.name)(z, *self.arguments)


ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Identity: "identity", nn.Softplus: "softplus"}
"""Layer → function of jax.nn; Softplus with beta = 1."""


def translate(rhs: Any) -> tuple[tuple[Layer, ...], list[Tensor]]:
    """The layers of a right-hand side, and their torch tensors in the same order.

    Raises ValueError for a layer that has no translation.
    """
    layers: list[Layer] = []
    tensors: list[Tensor] = []
    for module in _flat(rhs):
        layer, own = _translated(module)
        layers.append(layer)
        tensors += own
    return tuple(layers), tensors


def evaluate(layers: Sequence[Layer], tensors: Sequence[Any], z: Any) -> Any:
    """The right-hand side at a JAX array z, with JAX arrays for its tensors: four-dimensional
    ones channels-last too."""
    position = 0
    for layer in layers:
        z = layer(z, tensors[position : position + layer.n_tensors])
        position += layer.n_tensors
    return z


def _flat(module: Any) -> Iterator[nn.Module]:
    if type(module) is Autonomous:
        yield from _flat(module.layers)
    elif type(module) is nn.Sequential:
        for part in module:
            yield from _flat(part)
    else:
        yield module


def _translated(module: nn.Module) -> tuple[Layer, list[Tensor]]:
    # By exact type: a subclass may compute something else.
    if type(module) is nn.Conv2d:
        bias = [] if module.bias is None else [module.bias]
        return Convolution(_padding(module), bool(bias)), [module.weight, *bias]
    if type(module) is nn.BatchNorm2d:
        frozen = not module.training and module.running_mean is not None
        own = [module.weight, module.bias, *([module.running_mean, module.running_var] * frozen)]
        there = [tensor for tensor in own if tensor is not None]
        return BatchNorm(module.eps, module.affine, frozen), there
    if type(module) is nn.LeakyReLU:
        return Activation("leaky_relu", (module.negative_slope,)), []
    if type(module) in ACTIVATIONS and getattr(module, "beta", 1) == 1:
        return Activation(ACTIVATIONS[type(module)]), []
    raise ValueError(f"the right-hand side has a layer without a translation to JAX: {module}")


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    height, width = module.kernel_size
    padding = (height // 2, width // 2)
    keeps_size = module.padding == padding and height % 2 == width % 2 == 1
    plain = module.stride == module.dilation == (1, 1) and module.groups == 1
    if not (keeps_size and plain and module.padding_mode == "zeros"):
        raise ValueError(f"the right-hand side has a convolution without translation: {module}")
    return padding


@lru_cache
def _convolution(padding: tuple[int, int]) -> Any:
    """A convolution of (batch, h, w, inputs) with (h, w, inputs, outputs) and its derivatives.

    Inside a loop, as in a solve, XLA on CPUs is ten times slower if the memory order of an operand
    is not that of its kernel (github.com/jax-ml/jax/issues/12868), as in the derivatives that JAX
    makes. These reorder the operands, and the barrier keeps the compiler from undoing that.
    """
    jax, numpy = package("jax"), package("jax.numpy")

    def plain(z: Any, kernel: Any) -> Any:
        around = [(p, p) for p in padding]
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(z, kernel, (1, 1), around, dimension_numbers=order)

    def backward(saved: tuple[Any, Any], gradient: Any) -> tuple[Any, Any]:
        z, kernel = saved
        turned = numpy.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
        images, gradients = z.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
        turned, images, gradients = jax.lax.optimization_barrier((turned, images, gradients))
        of_kernel = jax.lax.optimization_barrier(plain(images, gradients))
        return plain(gradient, turned), of_kernel.transpose(1, 2, 0, 3)

    convolution = jax.custom_vjp(plain)
    convolution.defvjp(lambda z, kernel: (plain(z, kernel), (z, kernel)), backward)
    return convolution
