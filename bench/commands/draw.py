"""Draw the figures of a suite from what is recorded (--plots-only, and after every run)."""

from rich.console import Console
from rich.markdown import Markdown

from bench import cli, records
from bench.commands.exit_codes import DONE


def draw_runs(request: cli.TrainingRequest, console: Console) -> int:
    """Draw the suite's figures from those of the requested runs that are recorded."""
    import plots  # takes a second, and most commands draw nothing

    folder = request.out / request.suite.name
    names = [experiment.name for experiment in request.experiments]
    for file in plots.draw(request.suite.figures, folder, names):
        console.print(f"wrote {file}")
    return DONE


def draw_cases(request: cli.StudyRequest, console: Console) -> int:
    """Draw the study's figures from the recorded rows of the requested cases, and print its short
    tables."""
    import plots

    study, folder = request.suite, request.out / request.suite.name
    cases = {records.key_of(case, study.key) for case in request.cases}
    for file in plots.draw_measured(study.figures, folder, study.row, study.key, cases):
        console.print(f"wrote {file}")
        if file.name in study.printed:
            console.print(Markdown(file.read_text(encoding="utf-8")))
    return DONE
