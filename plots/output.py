"""The files that figures are written as, and the pictures of them for a report."""

import io
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from bench.records import write_whole
from plots import latex, style

CAPTION = "caption"
"""The gid of a figure's caption; its label is the text without line breaks."""
MARGIN = 0.03
"""Inches above and below a figure."""


@dataclass(frozen=True)
class Picture:
    """A figure for a report: an SVG without the caption, whose letters are curves, so that it needs
    no font. inches: its width. files: the figure's own."""

    name: str
    caption: str
    svg: str
    inches: float
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Output:
    """suite: the beginning of labels in LaTeX. title: the beginning of captions there. note: the
    end of every caption. pictures: the figures drawn so far."""

    formats: Collection[str] = ("png", "svg")
    suite: str = ""
    title: str = ""
    note: str = ""
    pictures: list[Picture] = field(default_factory=list)


@contextmanager
def chosen(output: Output) -> Iterator[None]:
    """A context in which figures are written so."""
    token = _output.set(output)
    try:
        yield
    finally:
        _output.reset(token)


def current() -> Output:
    """The output that is `chosen` in this context."""
    return _output.get(Output())


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.<format> for each format, each complete or absent.

    PNG and SVG show the caption. A PDF does not, since a paper has captions of its own: there it is
    the subject, and NAME.tex includes the figure with it.
    """
    output = current()
    captions = [text for text in figure.texts if text.get_gid() == CAPTION]
    caption = " ".join(str(text.get_label()) for text in captions)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it is laid out now, and drawn several times
    files = []
    for suffix in output.formats:
        files.append(folder / f"{name}.{suffix}")
        if suffix == "tex":
            is_wide = figure.get_figwidth() > style.ONE_COLUMN
            text, label = f"{output.title}. {caption}", f"{output.suite}-{name}"
            write_whole(files[-1], latex.figure(name, text, label, is_wide=is_wide))
        elif suffix != "pdf":
            write_whole(files[-1], _drawn(figure, suffix))
    for shown in captions:
        shown.set_visible(False)
    if "pdf" in output.formats:
        write_whole(folder / f"{name}.pdf", _drawn(figure, "pdf", Title=name, Subject=caption))
    with mpl.rc_context({"svg.fonttype": "path"}):
        svg = _short(_drawn(figure, "svg").decode())
    output.pictures.append(Picture(name, caption, svg, figure.get_figwidth(), tuple(files)))
    return files


def _drawn(figure: Figure, suffix: str, **metadata: str) -> bytes:
    """The figure as a file's content: as wide as it is made, unless something extends beyond
    its sides, and as high as it needs to be."""
    dates: Mapping[str, dict[str, str | None]] = {
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }
    extent = figure.get_tightbbox()
    left, right = min(0, extent.x0), max(figure.get_figwidth(), extent.x1)
    box = Bbox([[left, extent.y0 - MARGIN], [right, extent.y1 + MARGIN]])
    drawn = io.BytesIO()
    metadata_ = {**dates.get(suffix, {}), **metadata}
    figure.savefig(drawn, format=suffix, bbox_inches=box, metadata=metadata_)
    return drawn.getvalue()


def _short(svg: str) -> str:
    """An SVG without its head, its metadata, comments, names of groups, and invisible digits."""
    svg = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg).replace("xlink:href", "href")
    places = re.compile(r' (?:d|x|y)="[^"]*"|translate\([^)]*\)')
    svg = places.sub(lambda place: re.sub(r"(\d\.\d\d)\d+", r"\1", place[0]), svg)
    svg = svg.replace("DejaVuSans", "S")  # in the names of letters, of which there are thousands
    return re.sub(r"\s*\n\s*", "", svg)


_output: ContextVar[Output] = ContextVar("output")
