"""Draw the figures and the report of a suite from what is recorded (--plots-only, and after every
run)."""

from rich.console import Console
from rich.markdown import Markdown

from bench import cli, records
from bench.errors import DONE


def draw_runs(request: cli.TrainingRequest, console: Console) -> int:
    """Draw the suite's figures from those of the requested runs that are recorded."""
    import plots  # takes a second, and most commands draw nothing

    folder = request.out / request.suite.name
    names = [experiment.name for experiment in request.experiments]
    every = [experiment.name for experiment in request.whole.experiments()]
    how = plots.How(request.formats, request.redraw)
    for file in plots.draw(tuple(plots.FIGURES), folder, names, every, how):
        console.print(f"wrote {file}", markup=False)
    return DONE


def draw_cases(request: cli.StudyRequest, console: Console) -> int:
    """Draw the study's figures from the recorded rows of the requested cases, and print its short
    tables."""
    import plots

    study, folder = request.suite, request.out / request.suite.name
    cases, every = (
        {records.key_of(case, study.key) for case in chosen}
        for chosen in (request.cases, request.whole.cases())
    )
    how = plots.How(request.formats, request.redraw)
    files = plots.draw_measured(study.figures, folder, study.row, study.key, cases, every, how)
    for file in files:
        console.print(f"wrote {file}", markup=False)
        if file.name in study.printed:
            console.print(Markdown(file.read_text(encoding="utf-8")))
    return DONE
