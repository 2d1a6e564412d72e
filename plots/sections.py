"""Draw the figures of a suite's runs or measurements, and say what was run on what."""

import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import records
from bench.records import UsageError
from plots import conditions, labels, latex, output, style
from plots.report import Part, Section
from plots.report.facts import facts_of_environments, facts_of_runs
from plots.report.section import measured_files, rows_of_runs
from plots.training.recorded import BASELINE, read

Figure = Callable[[Any, Path], list[Path]]

_DESCRIBED = ("network", "problem", "method", "scheme", "n_steps", "gradient")
_SCHEME = ("method", "n_steps")
"""Columns that mean nothing in the rows of a baseline."""


@dataclass(frozen=True)
class How:
    """formats: of `records.FIGURE_FORMATS`. command: what draws these figures again, where that is
    not `python -m plots FOLDER`."""

    formats: Collection[str] = ("png", "svg")
    command: str = ""


USUAL = How()


def of_runs(
    figures: Mapping[str, Figure],
    folder: Path,
    runs: Sequence[str],
    suite_runs: Collection[str] | None,
    how: How,
) -> Section:
    """Draw the recorded ones of a suite's runs, as `plots.draw` says."""
    recorded = read(folder, runs)
    with labels.stated(_labels(recorded.environments)):
        place = _place(folder, runs, suite_runs, recorded.runs)
        parts = _parts(figures, recorded, place, folder, how)
        facts = facts_of_runs(recorded.runs, recorded.environments)
        return _section(folder, place, how, facts, parts, rows_of_runs(recorded.runs, folder))


def of_cases(
    figures: Mapping[str, Figure],
    folder: Path,
    row: type[Any],
    key: Sequence[str],
    cases: Collection[tuple[Any, ...]],
    suite_cases: Collection[tuple[Any, ...]] | None,
    how: How,
) -> Section:
    """Draw the recorded ones of a study's cases, as `plots.draw_measured` says."""
    file = folder / records.MEASUREMENTS
    rows = [r for r in records.read_rows(file, row) if records.key_of(r, key) in cases]
    if not rows:
        raise UsageError(f"none of the suite's cases is recorded in {file}: run it first")
    # Measurements on several devices do not belong into one figure: the last one's are drawn.
    device = rows[-1].device
    rows = [r for r in rows if r.device == device]
    # Several commands may have recorded the networks, in any order.
    rows.sort(key=lambda r: labels.rank(labels.NETWORKS, getattr(r, "network", "")))
    frame = pd.DataFrame([asdict(r) for r in rows])
    where = [e for e in records.environments(file) if e.get("device") == device]
    note = conditions.differences_of_environments(where)
    with labels.stated(_labels(where)):
        place = _place(folder, cases, suite_cases, frame)
        parts = _parts(figures, frame, place, folder, how, note)
    facts = {"Measurements": f"{len(frame)} rows, on {device}"}
    return _section(folder, place, how, facts | facts_of_environments(where), parts, [])


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A context for figures and reports in a folder, which is made. Raises UsageError when they
    cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with style.applied():
            yield
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename or folder} ({error.strerror}): free disk "
            "space or make it writable, then draw again with --plots-only"
        ) from error


def _labels(environments: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {name: label for e in environments for name, label in e.get("labels", {}).items()}


def _place(
    suite_folder: Path, chosen: Collection[Any], whole: Collection[Any] | None, rows: pd.DataFrame
) -> Path:
    """The folder of figures: the suite's, or one of its own for another selection."""
    place = suite_folder / "figures"
    if whole is None or {*chosen} == {*whole}:
        return place
    with_scheme = rows[rows["gradient"] != BASELINE] if "gradient" in rows else rows
    values = [
        str(value)
        for name in _DESCRIBED
        if name in rows
        for value in (with_scheme if name in _SCHEME else rows)[name].unique()
    ]
    described = re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join(values))[:60].strip("-_")
    digest = hashlib.sha256(repr(sorted(map(str, chosen))).encode()).hexdigest()[:6]
    return place / f"{described}-{digest}"


def _parts(
    figures: Mapping[str, Figure], rows: Any, place: Path, folder: Path, how: How, note: str = ""
) -> list[Part]:
    """Draw each figure; return its files under the title of its module. note: for all captions."""
    parts = []
    for figure in figures.values():
        title = (
            str(sys.modules[figure.__module__].__doc__)
            .partition("\n")[0]
            .rstrip(".")
            .replace("`", "")
        )
        drawn = output.Output(how.formats, folder.name, title, note)
        with writing(place), output.chosen(drawn):
            files = figure(rows, place)
            files += [made for file in files for made in _finished(file, drawn)]
        pictured = {file for picture in drawn.pictures for file in picture.files}
        parts.append(Part(title, drawn.pictures, [f for f in files if f not in pictured]))
    return [part for part in parts if part.pictures or part.files]


def _finished(file: Path, drawn: output.Output) -> list[Path]:
    """Add the note on conditions to a table in Markdown, and write it as LaTeX if that is chosen;
    return the new file."""
    if file.suffix != ".md":
        return []
    text = file.read_text(encoding="utf-8")
    if drawn.note:
        text += f"\n{drawn.note.strip()}\n"
        records.write_whole(file, text)
    if "tex" not in drawn.formats:
        return []
    table = file.with_suffix(".tex")
    records.write_whole(table, latex.tables(text, f"{drawn.suite}-{file.stem}"))
    return [table]


def _section(
    folder: Path,
    place: Path,
    how: How,
    facts: Mapping[str, str],
    parts: Sequence[Part],
    runs: Sequence[Mapping[str, str | Path]],
) -> Section:
    formats = [] if tuple(how.formats) == USUAL.formats else ["--format", ",".join(how.formats)]
    again = how.command or shlex.join(["python", "-m", "plots", folder.as_posix(), *formats])
    is_whole = place == folder / "figures"
    name = folder.absolute().name
    return Section(
        title=name if is_whole else f"{name}: {place.name}",
        place=folder if is_whole else place,
        command=again,
        facts=facts,
        parts=parts,
        runs=runs,
        records=measured_files(folder),
    )
