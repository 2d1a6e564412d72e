"""Residual networks whose shape-keeping second blocks are ODE blocks."""

from dataclasses import dataclass

from torch import Tensor, nn

from models.layers import Autonomous, DepthVarying, MakeODEBlock, conv_bn, conv_bn_relu


class ResidualBlock(nn.Module):
    """ReLU(BN(conv(ReLU(BN(conv x)))) + shortcut(x)), the basic block of He et al. (2016).

    (batch, inputs, h, w) → (batch, outputs, h / stride, w / stride). The shortcut is the identity
    where the shape is kept and a 1×1 convolution with BatchNorm where it is not.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_bn_relu(inputs, outputs, 3, stride=stride), *conv_bn(outputs, outputs, 3)
        )
        keeps_shape = stride == 1 and inputs == outputs
        shortcut = [] if keeps_shape else conv_bn(inputs, outputs, 1, stride=stride)
        self.shortcut = nn.Sequential(*shortcut)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


def right_hand_side(width: int, groups: int = 0) -> nn.Module:
    """f(z) = ReLU(BN(conv(ReLU(BN(conv z))))) with two 3×3 convolutions.

    groups: where it is positive, GroupNorm with that many groups takes BatchNorm's place.
    """
    layers = [*conv_bn_relu(width, width, 3), *conv_bn_relu(width, width, 3)]
    if groups:
        layers = [
            nn.GroupNorm(groups, width) if isinstance(layer, nn.BatchNorm2d) else layer
            for layer in layers
        ]
    return Autonomous(*layers)


def resnet4(ode_block: MakeODEBlock, num_classes: int) -> nn.Module:
    """(batch, 3, 32, 32) → (batch, num_classes). 7,706 parameters for 10 classes."""
    return nn.Sequential(
        *conv_bn_relu(3, 16, 3), ode_block(right_hand_side(16)), *_head(8, 256, num_classes)
    )


@dataclass(frozen=True)
class ResNetChain:
    """ResNet-4 with `blocks` successive ODE blocks, not one, and `width` channels, not 16.

    (batch, 3, 32, 32) → (batch, num_classes). Not a published network: it shows how cost and
    memory depend on the number of blocks alone, or on the width alone. groups: where it is
    positive, f has GroupNorm with that many groups in BatchNorm's place, so that no running
    statistics are shared by its evaluations. sets: 2 for weights in f that depend on t, linear
    between two sets. Named `models.resnet:CHAIN:blocks=4`, …:width=32, …:groups=4 or …:sets=2.
    """

    blocks: int = 1
    width: int = 16
    groups: int = 0
    sets: int = 1

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ValueError(f"a chain needs at least one block, not {self.blocks}: choose more")
        if self.width < 1:
            raise ValueError(f"a chain needs at least one channel, not {self.width}: choose more")
        if self.groups < 0 or (self.groups and self.width % self.groups):
            raise ValueError(
                f"GroupNorm cannot split {self.width} channels into {self.groups} groups: choose "
                "a divisor"
            )
        if self.sets not in (1, 2):
            raise ValueError(f"a chain has 1 or 2 sets of weights, not {self.sets}: choose 1 or 2")

    def __call__(self, ode_block: MakeODEBlock, num_classes: int) -> nn.Module:
        width = self.width
        chain = (ode_block(self._right_hand_side()) for _ in range(self.blocks))
        return nn.Sequential(*conv_bn_relu(3, width, 3), *chain, *_head(8, 16 * width, num_classes))

    def _right_hand_side(self) -> nn.Module:
        start = right_hand_side(self.width, self.groups)
        if self.sets == 1:
            return start
        return DepthVarying(start, right_hand_side(self.width, self.groups))


CHAIN = ResNetChain()


def resnet10(ode_block: MakeODEBlock, num_classes: int) -> nn.Module:
    """(batch, 3, 32, 32) → (batch, num_classes). 44,186 parameters for 10 classes."""
    return nn.Sequential(
        *conv_bn_relu(3, 16, 3),
        *_stages(ode_block, inputs=16, widths=(16, 32)),
        *_head(8, 128, num_classes),
    )


def resnet18(ode_block: MakeODEBlock, num_classes: int) -> nn.Module:
    """(batch, 3, 32, 32) → (batch, num_classes). 11,173,962 parameters for 10 classes."""
    return nn.Sequential(
        *conv_bn_relu(3, 64, 3),
        *_stages(ode_block, inputs=64, widths=(64, 128, 256, 512)),
        *_head(4, 512, num_classes),
    )


def _stages(ode_block: MakeODEBlock, inputs: int, widths: tuple[int, ...]) -> list[nn.Module]:
    """A residual block and an ODE block for each width; all stages but the first halve the size."""
    layers: list[nn.Module] = []
    for stage, width in enumerate(widths):
        layers.append(ResidualBlock(inputs, width, stride=1 if stage == 0 else 2))
        layers.append(ode_block(right_hand_side(width)))
        inputs = width
    return layers


def _head(pool: int, features: int, num_classes: int) -> list[nn.Module]:
    return [nn.AvgPool2d(pool), nn.Flatten(), nn.Linear(features, num_classes)]
