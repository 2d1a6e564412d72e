"""Run a recorded experiment again and compare it with its record (--reproduce)."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cli, data, environment, records
from bench.context import Workload
from bench.errors import CHECK_FAILED, DONE, UsageError, writing
from bench.execution import executors
from bench.experiment import Experiment
from bench.records import ADDED_COLUMNS, ARCHIVE, WALL_CLOCK_COLUMNS, Run
from bench.records.files import make_writable
from bench.reporting import terminal
from bench.reporting.progress import SuiteProgress
from bench.reporting.remaining import Plan
from bench.reporting.terminal import count

AGAIN = f"{ARCHIVE}reproduced"
"""The end of the name of the folder in which it is run again, which `records.load` ignores."""


@dataclass(frozen=True)
class Difference:
    """The first epoch in which a column is not the same."""

    column: str
    epoch: int
    recorded: Any
    now: Any


def run(request: cli.TrainingRequest, console: Console) -> int:
    """Run the experiment again, as it was run, and print what differs from its record."""
    assert request.reproduce is not None, "cli gives a name"
    recorded = find(request.out / request.suite.name, request.reproduce)
    experiment = experiment_of(recorded)
    was = recorded.environment
    device = environment.find_device(was["device"] if request.device == "auto" else request.device)
    environment.check_precision(experiment.precision, device)
    dataset = _same_data(request, recorded, experiment.num_classes)
    results = place(request.out, recorded.suite, experiment.name)
    make_writable(results)
    eager = request.eager or was.get("execution") == "eager: --eager"
    workload = Workload(recorded.suite, results, dataset, device, eager=eager)
    with environment.threads(was["threads"]):
        console.print(f"{recorded.name} again, on {environment.device_name(device)}")
        n_steps = workload.steps_an_epoch(experiment)
        step = recorded.summary.get("seconds", 0.0) / (experiment.num_epochs * n_steps)
        plans = {experiment: Plan(experiment.num_epochs, n_steps, step)}
        with SuiteProgress(console, plans) as progress:
            (now,) = executors.run_all(workload, [experiment], progress)
    for change in changes(was, now.environment):
        console.print(f"not as it was: {change}", markup=False)
    found = differences(recorded, now)
    if not found:
        console.print(
            f"the same: {now.status}, {count(len(now.epochs), 'epoch')}, every observed number to "
            "the last bit"
        )
        return DONE
    columns = ("what", "first in epoch", "recorded", "now")
    rows = [(d.column, d.epoch or "", d.recorded, d.now) for d in found]
    console.print(terminal.table(columns, rows, "not the same"))
    console.print(f"recorded again in {now.folder(results)}", markup=False)
    return CHECK_FAILED


def _same_data(request: cli.TrainingRequest, recorded: Run, num_classes: int) -> data.Dataset:
    """The data that was given. Raises UsageError when the run was recorded on other data."""
    generate = request.generated or (recorded.data["is_generated"] and request.data_dir is None)
    dataset = data.load(request.data_dir, num_classes, generate=generate)
    if dataset.fingerprint != recorded.data["fingerprint"]:
        raise UsageError(
            f"{recorded.name} was recorded on other data ({recorded.data['source']}, fingerprint "
            f"{recorded.data['fingerprint']}) than is given now ({dataset.source}, "
            f"{dataset.fingerprint}): give that data"
        )
    return dataset


def find(suite_folder: Path, name: str) -> Run:
    """The recorded run of that name in a suite's folder, or in the folder of that name.

    Raises UsageError when there is none, or it failed.
    """
    folders = (suite_folder / name, Path(name))
    run = next((run for folder in folders if (run := records.read_run(folder))), None)
    if run is None:
        raise UsageError(
            f"no run {name} is recorded in {suite_folder}: --status shows those that are"
        )
    if run.status == "failed":
        raise UsageError(f"the run {name} failed, and is no result: run the suite again")
    return run


def experiment_of(run: Run) -> Experiment:
    """The experiment of a record. Raises UsageError when this version cannot run it."""
    try:
        return Experiment(**run.experiment)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the run {run.name} cannot be run by this version ({error}): use that of its git "
            f"revision, {run.environment.get('git_revision')}"
        ) from error


def place(results: Path, suite: str, name: str) -> Path:
    """The folder of results in which the run is run again, beside the suite's.

    An earlier attempt that was stopped is continued; one that ended is removed.
    """
    folder = results / f"{suite}{AGAIN}"
    with writing(folder):
        if (folder / suite / name / records.RUN).exists():
            shutil.rmtree(folder / suite / name)
    return folder


def differences(recorded: Run, now: Run) -> list[Difference]:
    """Each column that differs in any bit, with its first epoch. Excluded are the wall clock, and
    columns that the record does not have, because they were added later.

    Differences in status, number of epochs and peak memory have epoch 0.
    """
    peak = "peak_memory_bytes"
    whole = {
        "status": (recorded.status, now.status),
        "epochs": (len(recorded.epochs), len(now.epochs)),
        peak: (recorded.summary.get(peak), now.summary.get(peak)),
    }
    found = {n: Difference(n, 0, was, is_) for n, (was, is_) in whole.items() if was != is_}
    for before, after in zip(recorded.epochs, now.epochs, strict=False):
        values = vars(after)
        for name, was in vars(before).items():
            if name in WALL_CLOCK_COLUMNS or (was is None and name in ADDED_COLUMNS):
                continue
            if repr(was) != repr(values[name]):  # every bit of a number; NaN is the same as NaN
                found.setdefault(name, Difference(name, before.epoch, was, values[name]))
    return list(found.values())


def changes(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two environments, in words."""
    before, after = _flat(recorded), _flat(now)
    return [
        f"{name}: {before.get(name)} → {after.get(name)}"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name not in _OF_ITS_TIME
    ]


_OF_ITS_TIME = ("command", "recorded_at", "started_at", "resumed_at", "jobs", "labels")


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: environment.get(name, {}) for name in ("packages", "sources")}
    own = {f"source of {name}": value for name, value in parts["sources"].items()}
    rest = {name: value for name, value in environment.items() if name not in parts}
    return {**rest, **parts["packages"], **own}
