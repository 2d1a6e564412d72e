"""The user's own code, named `package.module:Object`: import it and know its source."""

import hashlib
import importlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

PACKAGES = ("bench", "models", "plots", "solvers", "run_bench")
"""This program's own packages and modules."""
_ROOT = str(Path(__file__).parents[1])


def search_first(folder: str) -> None:
    """Search a folder first in imports, for the user's modules.

    A module there with a name of PACKAGES does not replace ours, also in processes started later.
    """
    before = [_ROOT] if any(_own(name, folder) for name in PACKAGES) else []
    sys.path[:] = dict.fromkeys([*before, folder, *sys.path])


def refuse_shadowed(specs: Iterable[str], folder: str) -> None:
    """Raise ValueError if a name of the user's means a module that is shadowed by one of
    PACKAGES."""
    for name in (name for spec in specs for name in _foreign(spec)):
        first = name.partition(":")[0].partition(".")[0]
        if first in PACKAGES and (found := _own(first, folder)):
            raise ValueError(
                f"cannot load {name!r}: {first!r} is a package of anode-bench, so Python does not "
                f"find yours: rename {found}"
            )


@contextmanager
def resolving(*specs: str) -> Iterator[None]:
    """A context in which these names may be resolved.

    A module that is imported in it changes no setting of the process, and its source is remembered
    as it was imported.
    """
    names = [name for spec in specs for name in _foreign(spec)]
    is_new = any(name.partition(":")[0] not in sys.modules for name in names)
    with state_kept() if is_new else nullcontext():
        yield
    for name in names:
        _source(name)


def sources(specs: Iterable[str]) -> dict[str, str]:
    """`package.module:Object` → SHA-256 of its source as it was imported, for names written so.

    Parameters are left out. If the object is defined in another module of the package, the hash
    includes that file.
    """
    names = [name for spec in specs for name in _foreign(spec)]
    with resolving(*names):
        return {name: hashlib.sha256(_source(name)).hexdigest() for name in names}


@contextmanager
def state_kept() -> Iterator[None]:
    """A context that restores, at its end, the settings that foreign code may change and that
    results depend on: PyTorch's default dtype and device, precision, determinism, threads, gradient
    mode, autocast, and the random states."""
    with ExitStack() as restore:
        for get, put in _STATE:
            with suppress(RuntimeError):  # set with two of PyTorch's interfaces, which excludes one
                restore.callback(put, get())
        if torch.cuda.is_initialized():
            restore.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        yield


def is_foreign(spec: str) -> bool:
    """Return whether a name is `package.module:Object`, with parameters or without."""
    return bool(_foreign(spec))


def _own(name: str, folder: str) -> str | None:
    """The user's module or package of this name in a folder, or None."""
    if Path(folder).resolve() == Path(_ROOT).resolve():
        return None
    places = [Path(folder, name), Path(folder, f"{name}.py")]
    return next((str(place) for place in places if place.exists()), None)


def _foreign(spec: str) -> list[str]:
    """[package.module:Object] without its parameters; [] for a registered name."""
    module, _, rest = spec.partition(":")
    attribute = rest.partition(":")[0]
    return [f"{module}:{attribute}"] if attribute and "=" not in attribute else []


def _source(name: str) -> bytes:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    names = {str(getattr(found, "__module__", "")), type(found).__module__} - {module}
    package = module.partition(".")[0]
    own = sorted(name for name in names if name.partition(".")[0] == package)
    return b"".join(_content(sys.modules[name]) for name in (module, *own))


@cache
def _content(module: ModuleType) -> bytes:
    try:
        return Path(str(module.__file__)).read_bytes()
    except (AttributeError, OSError):  # entered at a prompt, or in an archive
        return b""


def _attribute(name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Getter and setter of a setting below torch, by its name."""
    module, _, attribute = name.rpartition(".")
    return (
        lambda: attrgetter(name)(torch),
        lambda value: setattr(attrgetter(module)(torch), attribute, value),
    )


def _set_default_device(device: torch.device) -> None:
    if torch.get_default_device() != device:  # a default device slows every function call
        torch.set_default_device(None if device == torch.device("cpu") else device)


def _flushes_denormals() -> bool:
    return float(torch.full((), 1e-30, dtype=torch.float32, device="cpu") * 1e-10) == 0


def _autocast(device: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    def put(state: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, state[0])
        torch.set_autocast_dtype(device, state[1])

    return lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)), put


_STATE: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    _attribute("backends.fp32_precision"),
    _attribute("backends.cuda.matmul.fp32_precision"),
    _attribute("backends.cuda.matmul.allow_fp16_reduced_precision_reduction"),
    _attribute("backends.cuda.matmul.allow_bf16_reduced_precision_reduction"),
    _attribute("backends.cudnn.conv.fp32_precision"),
    _attribute("backends.cudnn.rnn.fp32_precision"),
    _attribute("backends.cudnn.allow_tf32"),
    _attribute("backends.cudnn.enabled"),
    _attribute("backends.cudnn.deterministic"),
    _attribute("backends.cudnn.benchmark"),
    _attribute("backends.mkldnn.matmul.fp32_precision"),
    _attribute("backends.mkldnn.conv.fp32_precision"),
    _attribute("backends.mkldnn.enabled"),
    _attribute("backends.mkldnn.deterministic"),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    _autocast("cpu"),
    _autocast("cuda"),
    (_flushes_denormals, torch.set_flush_denormal),
    (torch.get_rng_state, torch.set_rng_state),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
)
"""Getter and setter of each setting, restored from the last to the first: a flag of one operator
after the settings that change several."""
