"""AlexNet for 32×32 images, with one ODE block."""

from torch import nn

from models.layers import Autonomous, MakeODEBlock, conv_bn_relu, xavier_where_biased


def alexnet(ode_block: MakeODEBlock, num_classes: int) -> nn.Module:
    """(batch, 3, 32, 32) → (batch, num_classes). 1,756,682 parameters for 10 classes."""
    network = nn.Sequential(
        *conv_bn_relu(3, 64, 5, bias=True),
        nn.MaxPool2d(2),
        ode_block(Autonomous(*conv_bn_relu(64, 64, 5, bias=True))),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4096, 384),
        nn.ReLU(),
        nn.Linear(384, 192),
        nn.ReLU(),
        nn.Linear(192, num_classes),
    )
    return network.apply(xavier_where_biased)
