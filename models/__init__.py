"""The networks, as functions (make_ode_block, num_classes) -> nn.Module."""

from collections.abc import Callable
from functools import partial

from torch import nn

from models.alexnet import alexnet
from models.layers import MakeODEBlock
from models.ode_block import ODEBlock, block_inputs, ode_blocks
from models.resnet import resnet4, resnet10, resnet18
from models.squeezenext import squeezenext
from solvers import GradientMethod, Tableau
from solvers.registry import Registry

__all__ = ["BASELINE", "NETWORKS", "MakeNetwork", "ODEBlock", "block_inputs", "build", "ode_blocks"]

MakeNetwork = Callable[[MakeODEBlock, int], nn.Module]

NETWORKS: Registry[MakeNetwork] = Registry(
    "network",
    {
        "alexnet": alexnet,
        "resnet4": resnet4,
        "resnet10": resnet10,
        "squeezenext": squeezenext,
        "resnet18": resnet18,
    },
    aliases={"sqnxt": "squeezenext", "resnet": "resnet18"},  # the published driver's names
    check=lambda entry: None if callable(entry) else "it cannot be called",
)

BASELINE = "baseline"
"""In place of a gradient method: plain residual blocks z + f(z) where the ODE blocks would be."""


def build(
    network: str | MakeNetwork,
    *,
    method: str | Tableau,
    n_steps: int,
    gradient: str | GradientMethod,
    num_classes: int = 10,
) -> nn.Module:
    """A freshly initialised network: (batch, 3, 32, 32) → (batch, num_classes).

    The same random state gives the same weights for every method and gradient method. With
    gradient "baseline" each ODE block is a plain residual block: Euler, one step, backprop.
    Raises ValueError for a name that is not known or a combination that cannot be used.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number of at least 1, not {num_classes!r}")
    if gradient == BASELINE:
        method, n_steps, gradient = "euler", 1, "backprop"
    ode_block = partial(ODEBlock, method=method, n_steps=n_steps, gradient=gradient)
    return NETWORKS.resolve(network)(ode_block, num_classes)
