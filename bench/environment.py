"""The machine and software that a result comes from."""

import ctypes
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import bench
from bench.errors import UsageError

PACKAGES = (
    *("torch", "torchvision", "torchdiffeq", "checkpoint-schedules", "numpy", "pandas", "pillow"),
    *("diffrax", "jax", "torchode", "torchdyn", "ray"),
)
"""The packages that results depend on; a record holds the versions of the installed ones."""

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
_FASTEST_FORMAT = {"cpu": CHANNELS_LAST, "cuda": CHANNELS_LAST}
"""Memory formats by kind of device. On a CPU measured, in results/reference/cost-cpu; on CUDA not
yet: the suite `cost` times backprop and node in both."""


def find_device(name: str) -> torch.device:
    """The device for "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Raises UsageError for another name or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError):
        device = None
    if device is None or device.type not in ("cpu", "cuda") or name.startswith("cpu:"):
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            f"--device {name}: PyTorch finds no CUDA device on this machine; use --device cpu, "
            "or install a CUDA build of PyTorch and its driver"
        )
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA device(s), "
            "counted from 0"
        )
    return torch.device("cuda", index)


def memory_format_of(device: torch.device) -> str:
    """The memory format of training on a device, the same for all gradient methods."""
    return _FASTEST_FORMAT.get(device.type, CHANNELS_LAST)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UsageError if the device does not have the precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32 needs a CUDA device: use float32 or bfloat16")


def prepare(device: torch.device, precision: str = "float32") -> None:
    """Make this process fit to measure in, on a device, with one of `experiment.PRECISIONS`.

    A CUDA device becomes the current one: streams and events are otherwise made on the first.
    TF32 is on for "tf32" alone: PyTorch's own default differs between operators. cuDNN is made to
    choose deterministic algorithms. The C library is told to keep freed memory: by default it
    returns large blocks to the system and requests them again for every tensor, and the page
    faults cost up to 40% of a training step on a CPU.
    """
    _code()  # as it is now
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 * 2**20)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Have PyTorch use this number of CPU threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Options of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def describe(device: torch.device, precision: str | None = None) -> dict[str, Any]:
    """Machine, software, settings and command, as plain values for a record. precision: None where
    each row has its own."""
    is_cuda = device.type == "cuda"
    return {
        "command": shlex.join(sys.argv),
        "recorded_at": now(),
        "device": device.type,
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))}
        | {"torch": str(torch.__version__)},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if is_cuda else None,
        "driver": _driver() if is_cuda else None,
        **part(device),
        "keeps_freed_memory": platform.libc_ver()[0] == "glibc",
        "huge_pages": os.environ["THP_MEM_ALLOC_ENABLE"] == "1",
        "precision": precision,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 if is_cuda else None,
        "tf32_matrix_products": torch.backends.cuda.matmul.allow_tf32 if is_cuda else None,
        "fused_optimizer": is_cuda,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


def part(device: torch.device) -> dict[str, Any]:
    """The part of the environment that may change when a run is resumed."""
    return {
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "cpu": _cpu_name(),
        **_code(),
        "memory_format": memory_format_of(device),
    }


def now() -> str:
    """The current time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device_name(device: torch.device) -> str:
    """The model of the device, to be printed."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_name()}, {threads} thread" + ("" if threads == 1 else "s")


@cache
def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The version of NVIDIA's driver, where its kernel module reports one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found and found[0]


@cache
def _code() -> dict[str, Any]:
    """The git revision of this code, read once: the files may change while the process runs."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "version": bench.__version__,
        "git_revision": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
    }


def _git(*arguments: str) -> str | None:
    """The output of git for this checkout; None where this folder is no checkout."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    # In a hook git tells its children which repository it is called in: it may be another one.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=here,
            env=ours,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
