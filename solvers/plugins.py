"""Objects that the user names as `package.module:Object`: loaded, and known by their source."""

import hashlib
import importlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch


def load(kind: str, spec: str) -> Any:
    """Import the module and return its object; the settings of PyTorch stay as they were.

    Raises ValueError, which names the kind and the spec, when that is not possible.
    """
    module, _, attribute = spec.partition(":")
    try:
        is_new = module not in sys.modules
        with state_kept() if is_new else nullcontext():
            found = getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # importing it runs the user's code, which may exit
        said = _first_line(error) or type(error).__name__
        if isinstance(error, SystemExit):
            said = f"it exits while it is imported ({said})"
        raise ValueError(f"cannot load {kind} {spec!r}: {said}") from error
    if is_new:
        _source(module, found)  # as it is now: the file may change while this process runs
    return found


def sources(specs: Iterable[str]) -> dict[str, str]:
    """`package.module:Object` → SHA-256 of its source file, as it was imported, for those of the
    names that are written so; their parameters are left out.

    Where the object is defined in another module of the package, its file follows in the hash.
    """
    found = {}
    for spec in specs:
        name = ":".join(spec.split(":")[:2])
        module, _, attribute = name.partition(":")
        if attribute and "=" not in attribute:
            content = _source(module, load("object", name))
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def _source(module: str, found: Any) -> bytes:
    names = {str(getattr(found, "__module__", "")), type(found).__module__}
    package = module.partition(".")[0]
    own = {name for name in names if name.partition(".")[0] == package} - {module}
    return b"".join(_content(sys.modules[name]) for name in (module, *sorted(own)))


@cache
def _content(module: ModuleType) -> bytes:
    try:
        return Path(str(module.__file__)).read_bytes()
    except (AttributeError, OSError):  # typed at a prompt, say, or in an archive
        return b""


def _first_line(error: BaseException) -> str:
    try:
        return str(error).strip().partition("\n")[0]
    except Exception:  # the user's own exception
        return ""


@contextmanager
def state_kept() -> Iterator[None]:
    """Put back, at the end, what foreign code may set for the whole process and what results
    depend on: PyTorch's default dtype and device, precision, determinism, threads, gradient mode
    and autocast, and the random states."""
    with ExitStack() as put_back:
        for get, put in _STATE:
            with suppress(RuntimeError):  # set with two of PyTorch's interfaces, which excludes one
                put_back.callback(put, get())
        if torch.cuda.is_initialized():
            put_back.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        yield


def _put_device(device: torch.device) -> None:
    if torch.get_default_device() != device:  # a device that is set slows every call of a function
        torch.set_default_device(None if device == torch.device("cpu") else device)


def _flushes_denormals() -> bool:
    return float(torch.full((), 1e-30, dtype=torch.float32, device="cpu") * 1e-10) == 0


_FLAGS = (
    "fp32_precision",
    "cuda.matmul.fp32_precision",
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "cudnn.conv.fp32_precision",
    "cudnn.rnn.fp32_precision",
    "cudnn.allow_tf32",
    "cudnn.enabled",
    "cudnn.deterministic",
    "cudnn.benchmark",
    "mkldnn.matmul.fp32_precision",
    "mkldnn.conv.fp32_precision",
    "mkldnn.enabled",
    "mkldnn.deterministic",
)
"""Of torch.backends."""


def _put_flag(name: str, value: object) -> None:
    module, _, attribute = name.rpartition(".")
    setattr(attrgetter(module)(torch.backends) if module else torch.backends, attribute, value)


_STATE: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    *((partial(attrgetter(name), torch.backends), partial(_put_flag, name)) for name in _FLAGS),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _put_device),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    *(
        (partial(get, device), partial(put, device))
        for device in ("cpu", "cuda")
        for get, put in (
            (torch.is_autocast_enabled, torch.set_autocast_enabled),
            (torch.get_autocast_dtype, torch.set_autocast_dtype),
        )
    ),
    (_flushes_denormals, torch.set_flush_denormal),
    (torch.get_rng_state, torch.set_rng_state),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
)
"""How each is read and set. They are put back from the last to the first: a flag of one operator
after the settings that change several."""
