"""SqueezeNext (Gholami et al., 2018) with ODE blocks, as in the ANODE paper."""

from torch import Tensor, nn

from models.layers import Autonomous, MakeODEBlock, conv_bn, conv_bn_relu, xavier_where_biased

WIDTHS = (32, 64, 128, 256)


def five_convolutions(
    inputs: int, outputs: int, *, reduction: float, stride: int = 1
) -> list[nn.Module]:
    """1×1, 1×1, 1×3, 3×1 and 1×1 convolutions, each with BatchNorm and ReLU."""
    wide = int(reduction * inputs)
    narrow = wide // 2
    return [
        *conv_bn_relu(inputs, wide, 1, stride=stride, bias=True),
        *conv_bn_relu(wide, narrow, 1, bias=True),
        *conv_bn_relu(narrow, wide, (1, 3), bias=True),
        *conv_bn_relu(wide, wide, (3, 1), bias=True),
        *conv_bn_relu(wide, outputs, 1, bias=True),
    ]


class TransitionBlock(nn.Module):
    """ReLU(five_convolutions(x) + ReLU(BN(conv1×1(x)))): changes width, and size by its stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        reduction = 1.0 if stride == 2 else 0.25 if outputs < inputs else 0.5
        self.residual = nn.Sequential(
            *five_convolutions(inputs, outputs, reduction=reduction, stride=stride)
        )
        self.shortcut = nn.Sequential(
            *conv_bn(inputs, outputs, 1, stride=stride, bias=True), nn.ReLU()
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


def squeezenext(ode_block: MakeODEBlock, num_classes: int) -> nn.Module:
    """(batch, 3, 32, 32) → (batch, num_classes). 461,466 parameters for 10 classes."""
    layers = conv_bn_relu(3, 64, 3, bias=True)
    inputs = 64
    for stage, width in enumerate(WIDTHS):
        layers.append(TransitionBlock(inputs, width, stride=1 if stage == 0 else 2))
        layers.append(ode_block(Autonomous(*five_convolutions(width, width, reduction=0.5))))
        inputs = width
    layers += conv_bn_relu(inputs, 128, 1, bias=True)
    layers += [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(128, num_classes)]
    return nn.Sequential(*layers).apply(xavier_where_biased)
