"""Print what a command would run (--dry-run)."""

from rich.console import Console

from bench import cli
from bench.errors import DONE
from bench.reporting.terminal import count


def print_runs(request: cli.TrainingRequest, console: Console) -> int:
    """Print the name of each run, recorded or not, and the number of runs."""
    return _print([experiment.name for experiment in request.experiments], "run", console)


def print_cases(request: cli.StudyRequest, console: Console) -> int:
    """Print the name of each case of a study, and the number of cases."""
    return _print([case.name for case in request.cases], "case", console)


def _print(names: list[str], noun: str, console: Console) -> int:
    for name in names:
        console.print(name)
    console.print(count(len(names), noun))
    return DONE
