"""Draw all suites of a folder of results again, in one report (--report)."""

from rich.console import Console

from bench import cli
from bench.errors import DONE


def run(request: cli.ReportRequest, console: Console) -> int:
    """Draw every figure that the records in the folder can show, and write the report."""
    import plots  # takes a second, and most commands draw nothing

    for file in plots.draw_folder(request.folder, request.formats):
        console.print(f"wrote {file}", markup=False)
    return DONE
