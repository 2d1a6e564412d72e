"""Print what of a suite is done, running, stopped, failed and left (--status)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cli, errors, records, sources
from bench.commands.places import describe_folder
from bench.execution import position
from bench.experiment import Experiment
from bench.records import MEASUREMENTS, RESULTS, checksums, locks
from bench.records.checksums import DamagedRecordError
from bench.reporting import progress, terminal
from bench.training import checkpoint
from bench.training.checkpoint import DamagedError

DONE, FAILED, RUNNING, STOPPED = "done", "failed", "running", "stopped"
DAMAGED, LEFT, MEASURED = "damaged", "left", "measured"


@dataclass(frozen=True)
class State:
    """Progress of an experiment or a study.

    state: one of the words above. epochs: finished epochs, or measured cases. detail: a sentence.
    """

    name: str
    state: str
    epochs: int
    detail: str = ""


def show_runs(request: cli.TrainingRequest, console: Console) -> int:
    """Print how far each run of the suite is."""
    there, folder = describe_folder(request.out), request.out / request.suite.name
    states = of_runs(folder, request.experiments)
    longest = max((len(state.name) for state in states), default=0)
    for experiment, state in zip(request.experiments, states, strict=True):
        epochs = f"{state.epochs}/{experiment.num_epochs}"
        shown = f"{state.name:{longest}}  {state.state:8}{epochs:>7}  {state.detail}"
        console.print(shown.rstrip(), markup=False)  # a terminal wraps it, and cuts no name
    more = others(folder, request.experiments)
    console.print(
        f"{request.suite.name} in {there}: {summary(states)}"
        + (f"; {terminal.count(more, 'run')} with other options besides" if more else ""),
        markup=False,
    )
    return errors.DONE


def show_cases(request: cli.StudyRequest, console: Console) -> int:
    """Print how many cases of a study are measured."""
    study, there = request.suite, describe_folder(request.out)
    state = of_cases(request.out / study.name, study.row, study.key, request.cases)
    console.print(
        f"{study.name} in {there}: {state.state}" + (f", {state.detail}" if state.detail else ""),
        markup=False,
    )
    return errors.DONE


def of_runs(suite_folder: Path, experiments: Iterable[Experiment]) -> list[State]:
    """Return the progress of each experiment. Writes nothing.

    Raises UsageError for a record of another version.
    """
    return [_of_run(suite_folder, experiment) for experiment in experiments]


def _of_run(suite_folder: Path, experiment: Experiment) -> State:
    name, folder = experiment.name, suite_folder / experiment.name
    is_running = locks.is_held(suite_folder, name)
    try:
        run = records.read_run(folder)
    except DamagedRecordError as error:
        return State(name, RUNNING if is_running else DAMAGED, 0, str(error))
    changed = run and sources.changed([run.environment], sources.of(experiment))
    if changed and not is_running:
        return State(name, LEFT, 0, f"{', '.join(changed)} changed since it was recorded")
    if run is not None and run.status in RESULTS and not changed:
        return State(name, DONE, len(run.epochs), progress.describe(run))
    epochs, detail = _of_checkpoint(folder / checkpoint.NAME)
    if is_running:
        reached = position.read(folder)
        if reached and reached.epoch > epochs:  # later than the checkpoint
            detail = f"in epoch {reached.epoch}, {terminal.count(reached.step, 'step')}"
        return State(name, RUNNING, epochs, detail)
    if run is not None:
        return State(name, FAILED, len(run.epochs), progress.describe(run))
    return State(name, STOPPED if epochs or detail else LEFT, epochs, detail)


def _of_checkpoint(file: Path) -> tuple[int, str]:
    """The number of finished epochs, and the progress of the current one in words."""
    try:
        found = checkpoint.read_any(file)
    except (DamagedError, checkpoint.ForeignError) as error:
        return 0, f"its checkpoint cannot be used: {error}"
    if found is None:
        return 0, ""
    return len(found.rows), f"in epoch {found.epoch}, {terminal.count(found.steps, 'step')}"


def of_cases(suite_folder: Path, row: type[Any], key: Sequence[str], cases: Iterable[Any]) -> State:
    """The number of measured cases of a study, as `epochs`.

    key: the study's. Where it is empty, all cases are measured anew by each command, and the rows
    do not say which cases they belong to.
    """
    cases = list(cases)
    wanted = {records.key_of(case, key) for case in cases}
    name, file = suite_folder.name, suite_folder / MEASUREMENTS
    is_running = locks.is_held(suite_folder, locks.MEASUREMENTS)
    try:
        rows = records.read_rows(file, row) if file.exists() else []
    except DamagedRecordError as error:
        return State(name, RUNNING if is_running else DAMAGED, 0, str(error))
    if not key and rows and not is_running:
        when = [str(found["recorded_at"]) for found in checksums.environments(file)]
        return State(name, MEASURED, len(rows), f"{terminal.count(len(rows), 'row')}, {when[-1]}")
    old = sources.changed(checksums.environments(file), sources.of(*cases))
    valid = {records.key_of(row, key) for row in rows}
    valid -= {records.key_of(row, key) for row in sources.rows_of(rows, old)}
    done = len(wanted & valid)
    state = RUNNING if is_running else DONE if done == len(wanted) else STOPPED if done else LEFT
    detail = f"{done} of {terminal.count(len(wanted), 'case')} measured" if key else ""
    return State(name, state, done, detail)


def others(suite_folder: Path, experiments: Iterable[Experiment]) -> int:
    """The number of other runs that are recorded in the folder."""
    names = {experiment.name for experiment in experiments}
    return sum(file.parent.name not in names for file in suite_folder.glob(f"*/{records.RUN}"))


def summary(states: Sequence[State]) -> str:
    """The number of experiments in each state, in words."""
    counts = Counter(state.state for state in states)
    order = (DONE, RUNNING, STOPPED, FAILED, DAMAGED, LEFT)
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
