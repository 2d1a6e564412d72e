"""Names of networks, schemes, gradient methods and activations in figures and tables.

A name without an entry is its own label, unless a record states one for the user's own code.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

NETWORKS = {
    "alexnet": "AlexNet",
    "resnet4": "ResNet-4",
    "resnet10": "ResNet-10",
    "squeezenext": "SqueezeNext",
    "resnet18": "ResNet-18",
}
METHODS = {"euler": "Euler", "rk2": "RK2", "rk4": "RK4", "rk4_38": "RK4 (3/8 rule)"}
GRADIENTS = {
    "baseline": "Baseline (residual network)",
    "node": "Neural ODE (continuous adjoint)",
    "anode": "ANODE (checkpointed, exact)",
    "backprop": "Backprop (store everything)",
    "anode-auto": "ANODE, planned",
    "anode-steps": "ANODE, a checkpoint a step",
    "anode-revolve": "ANODE, binomial checkpoints",
    "symplectic": "Symplectic adjoint",
    "mixed": "Mixed precision",
    "reversible": "Reversible (McCallum & Foster)",
    "node-grid": "Neural ODE, step states restored",
    "node-frozen": "Neural ODE, BatchNorm frozen",
    "node-grid-frozen": "Neural ODE, step states restored, BatchNorm frozen",
    "node-stages": "Neural ODE, stage states restored",
    "node-rk45": "Neural ODE, adaptive RK45",
    "anode-rk45": "ANODE, adaptive RK45",
    "backprop-rk45": "Backprop, adaptive RK45",
    "backprop-torchdiffeq": "Backprop through torchdiffeq",
}
"""Order in which methods are chosen for the first figure, which has room for six."""
PEERS = {
    "bench.peers.original:ORIGINAL": "ANODE, as its code was published",
    "bench.peers.torch_checkpoint:BLOCK": "torch.utils.checkpoint, block",
    "bench.peers.torch_checkpoint:STEPS": "torch.utils.checkpoint, steps",
    "bench.peers.with_torchode:BACKPROP": "torchode, backprop",
    "bench.peers.with_torchode:ADJOINT": "torchode, continuous adjoint",
    "bench.peers.with_torchdyn:BACKPROP": "torchdyn, backprop",
    "bench.peers.with_torchdyn:ADJOINT": "torchdyn, continuous adjoint",
    "bench.peers.with_diffrax:RECURSIVE": "diffrax, recursive checkpoints",
    "bench.peers.with_diffrax:BACKSOLVE": "diffrax, continuous adjoint",
}
SHORT_GRADIENTS = {"baseline": "Baseline", "node": "Neural\nODE", "anode": "ANODE"}
ACTIVATIONS = {
    "none": "no activation",
    "relu": "ReLU",
    "leaky_relu": "Leaky ReLU",
    "softplus": "Softplus",
    "tanh": "tanh",
}
SOLVERS = {
    **METHODS,
    "reversible": "Reversible pair over Euler",
    "rk45": "RK45, adaptive",
    "rk45_relative": "RK45, relative tolerance",
}
"""The schemes of the suite `reversibility`."""
PROBLEMS = {
    "linear-100": "dz/dt = −100 z",
    "linear-10000": "dz/dt = −10⁴ z",
    "relu-decay": "dz/dt = −max(0, 10 z)",
    "gaussian": "dz/dt = max(0, W z)",
    "gaussian-unit": "dz/dt = max(0, W z), ‖W‖₂ = 1",
    "convolution": "dz/dt = ReLU(conv z), an image",
}

CHAIN = "models.resnet:CHAIN:blocks="
"""Prefix of ResNet-4 with several ODE blocks, as the suite `memory` names it."""
WIDE = "models.resnet:CHAIN:width="
"""Prefix of ResNet-4 with another number of channels, as the suite `growth` names it."""

DEPTH_VARYING = "models.resnet:CHAIN:sets=2"
"""ResNet-4 with weights that depend on t, as the suite `ode-gradients` names it."""


def rank(names: Mapping[str, str], name: str) -> int:
    """The place of a name in the order of these labels; the last one if it has none."""
    order = [*names]
    return order.index(name) if name in order else len(order)


@contextmanager
def stated(own: Mapping[str, str]) -> Iterator[None]:
    """A context with the labels that records state for the user's own code, as in
    `package.module:Object:key=value` → label."""
    token = _own.set(own)
    try:
        yield
    finally:
        _own.reset(token)


def network(name: str) -> str:
    if name == DEPTH_VARYING:
        return "ResNet-4, θ(t)"
    if name.startswith(CHAIN):
        return f"ResNet-4, {name.removeprefix(CHAIN)} ODE blocks"
    return NETWORKS.get(name) or _of_own(name)


def method(name: str) -> str:
    return METHODS.get(name) or _of_own(name)


def scheme(name: str, n_steps: float) -> str:
    """A time-stepping scheme with its number of steps."""
    return f"{method(name)}, Nt = {int(n_steps)}"


def gradient(name: str) -> str:
    """The label of a gradient method, with its parameters in brackets."""
    base, _, parameters = name.partition(":")
    if name in PEERS:
        return PEERS[name]
    if base not in GRADIENTS:
        return _of_own(name)
    return f"{GRADIENTS[base]} ({parameters.replace(':', ', ')})" if parameters else GRADIENTS[base]


def short_gradient(name: str) -> str:
    return SHORT_GRADIENTS.get(name) or _of_own(name)


def activation(name: str) -> str:
    return ACTIVATIONS.get(name, name)


def solver(name: str) -> str:
    return SOLVERS.get(name) or _of_own(name)


def memory_format(name: str) -> str:
    return name.replace("_", "-")


def how_counted(device: str) -> str:
    """The meaning of peak memory on a device, in words."""
    return "the allocator's peak" if device == "cuda" else "live tensor bytes, counted exactly"


def _of_own(name: str) -> str:
    """The stated label with the parameters that it does not show, or with the whole name where
    another object has this label too."""
    own = _own.get()
    label = own.get(name, name)
    parameters = [part for part in name.split(":") if "=" in part and part not in label]
    if [*own.values(), *_REGISTERED].count(label) > 1:
        parameters = [name]
    return f"{label} ({', '.join(parameters)})" if parameters and name in own else label


_own: ContextVar[Mapping[str, str]] = ContextVar("own", default=MappingProxyType({}))
_REGISTERED = [*GRADIENTS, *GRADIENTS.values(), *METHODS.values(), *NETWORKS.values()]
