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
"""Kind of device → memory format. On a CPU by results/reference/cost-cpu; on CUDA not measured."""


def find_device(name: str) -> torch.device:
    """The device for "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".

    Raises UsageError for another name, or a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    index = int(name.removeprefix("cuda").lstrip(":") or 0)
    if not torch.cuda.is_available():
        raise UsageError(
            f"--device {name}: PyTorch finds no CUDA device on this machine; use --device cpu, "
            "or install a CUDA build of PyTorch and its driver"
        )
    if index >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"--device {name}: this machine has {count} CUDA device(s), from 0")
    return torch.device("cuda", index)


def memory_format_of(device: torch.device) -> str:
    """The memory format of training on a device, the same for all gradient methods."""
    return _FASTEST_FORMAT.get(device.type, CHANNELS_LAST)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UsageError if the device does not have the precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32 needs a CUDA device: use float32 or bfloat16")


def prepare(device: torch.device, precision: str = "float32") -> None:
    """Configure this process for measurements on a device, with one of `experiment.PRECISIONS`.

    A CUDA device becomes the current one: streams and events are otherwise made on the first.
    TF32 is on for "tf32" alone: PyTorch's own default differs between operators. cuDNN chooses
    deterministic algorithms. The C library keeps freed memory: by default it returns large blocks
    to the system, and the page faults cost up to 40% of a training step on a CPU.
    """
    _code()  # before files change
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in _MALLOC_OPTIONS.items():
            libc.mallopt(option, value)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """A context in which PyTorch uses this number of CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_MALLOC_OPTIONS = {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}
"""M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD of mallopt(3)."""


def describe(device: torch.device, precision: str | None = None) -> dict[str, Any]:
    """Machine, software, settings and command, as plain values for a record.

    precision: None if each row has its own.
    """
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
        "driver": _first(_VERSION, "/proc/driver/nvidia/version") if is_cuda else None,
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
    return (
        _first(r"model name\s*: (.*)", "/proc/cpuinfo")
        or platform.processor()
        or platform.machine()
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_VERSION = r"\b(\d+\.\d+(?:\.\d+)?)\b"


def _first(pattern: str, file: str) -> str | None:
    """The first match of a group in a file of /proc; None on a system that has none."""
    try:
        found = re.search(pattern, Path(file).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found and found[1].strip()


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
    command, quiet = ["git", *arguments], subprocess.DEVNULL
    try:
        said = subprocess.check_output(command, cwd=here, stderr=quiet, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.decode().strip()
