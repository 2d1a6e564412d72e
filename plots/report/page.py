"""Write a report as one HTML file that loads nothing else."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.records import write_whole
from plots import markdown
from plots.report.section import Section

PAGE = "report.html"
"""The name of a report, in the folder of what it shows."""


def write(page: Path, sections: Sequence[Section]) -> None:
    """Write the page, complete or absent. Links to records and figures are relative to it."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "address": lambda file: quote(Path(os.path.relpath(file, page.parent)).as_posix()),
        "data_uri": _data_uri,
        "html": _html,
        "slug": lambda text: re.sub(r"[^A-Za-z0-9._-]+", "-", text),
    }
    title = sections[0].title if len(sections) == 1 else page.absolute().parent.name
    text = templates.get_template("page.html").render(title=title, sections=sections)
    write_whole(page, text)


def _data_uri(svg: str) -> Markup:
    """An SVG as an address to be put in double quotes; three quarters of its length in base64."""
    swapped = svg.translate({ord('"'): "'", ord("'"): '"'})
    return Markup("data:image/svg+xml," + quote(swapped, safe=_PLAIN))


_PLAIN = "".join(chr(c) for c in range(32, 127) if chr(c) not in '"#%&')
"""Characters that an address in double quotes may contain."""


def _html(file: Path) -> Markup:
    """A Markdown file as HTML; HTML in it stays text. A table can be scrolled and sorted."""
    html = markdown.READER.render(file.read_text(encoding="utf-8"))
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    return Markup(html.replace("</table>", "</table></div>"))
