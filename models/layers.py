"""Layers that the networks share."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call

MakeODEBlock = Callable[[nn.Module], nn.Module]
"""Wraps a right-hand side f(t, z) in an ODE block."""

Size = int | tuple[int, int]


class Autonomous(nn.Module):
    """The right-hand side f(t, z) = layers(z), which does not depend on t."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.layers(z)


class DepthVarying(nn.Module):
    """The right-hand side `start` with weights (1 - t)·θ₀ + t·θ₁, those of `start` and of `end`.

    Both have the same layers. The buffers (BatchNorm's statistics) are those of `start`.
    """

    def __init__(self, start: nn.Module, end: nn.Module) -> None:
        super().__init__()
        self.start = start
        self.end = nn.ParameterList(end.parameters())

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        pairs = zip(self.start.named_parameters(), self.end, strict=True)
        weights = {name: first + t * (last - first) for (name, first), last in pairs}
        slope: Tensor = functional_call(self.start, weights, (t, z))
        return slope


def conv_bn(
    inputs: int, outputs: int, kernel: Size, *, stride: int = 1, bias: bool = False
) -> list[nn.Module]:
    """A convolution that keeps height and width (before its stride), and BatchNorm."""
    padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias),
        nn.BatchNorm2d(outputs),
    ]


def conv_bn_relu(
    inputs: int, outputs: int, kernel: Size, *, stride: int = 1, bias: bool = False
) -> list[nn.Module]:
    """A convolution, BatchNorm and a ReLU."""
    return [*conv_bn(inputs, outputs, kernel, stride=stride, bias=bias), nn.ReLU()]


def xavier_where_biased(module: nn.Module) -> None:
    """The published initialisation, for `network.apply`.

    A convolution that has a bias gets Xavier-uniform weights with gain √2 and a zero bias;
    everything else keeps PyTorch's default.
    """
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.xavier_uniform_(module.weight, gain=2**0.5)
        nn.init.zeros_(module.bias)
