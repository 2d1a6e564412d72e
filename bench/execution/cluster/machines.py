"""The machines of a Ray cluster, and what a task takes of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch

from bench.errors import UsageError

RETRIES = 10
"""So often a task is started again whose process or machine died."""


@dataclass(frozen=True)
class Share:
    """What a task needs of a machine, in Ray's words, and with how many threads it computes."""

    resources: Mapping[str, float]
    threads: int

    @classmethod
    def of(cls, device: torch.device, jobs: int) -> "Share":
        """So much that `jobs` tasks share each GPU, or each machine where they compute on CPUs:
        the machine with the fewest. Raises UsageError when there is none."""
        kind = "GPU" if device.type == "cuda" else "CPU"
        able = [machine for machine in machines() if machine.get(kind, 0) >= 1]
        if not able:
            raise UsageError(
                f"--executor ray: no machine of the cluster has a {kind} for a run: start one that "
                f"has (ray start --address=… --num-{kind.lower()}s=…)"
            )
        at_once = [jobs * (int(m["GPU"]) if kind == "GPU" else 1) for m in able]
        cpus = min(m.get("CPU", 0) / n for m, n in zip(able, at_once, strict=True))
        gpus = 1 / jobs if kind == "GPU" else 0
        # The whole threads of `--executor local --jobs`, so that the records are the same.
        threads = max(1, min(torch.get_num_threads() // jobs, int(cpus)))
        return cls({"CPU": _part(cpus), "GPU": _part(gpus)}, threads)

    def is_there(self) -> bool:
        """Whether a machine has it, busy or not."""
        return any(
            all(machine.get(name, 0) >= part for name, part in self.resources.items())
            for machine in machines()
        )

    def remote(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The function as a task that takes this share."""
        cpus, gpus = self.resources["CPU"], self.resources["GPU"]
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, **options)(function)
        return task.remote


def machines() -> list[Mapping[str, float]]:
    """What each machine of the cluster has, busy or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _part(number: float) -> float:
    """As much of it as Ray can give: whole ones, or ten-thousandths of one."""
    return int(number) if number >= 1 else int(number * 10_000) / 10_000
