"""The console: a live display on a terminal alone, and nothing cut off anywhere."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TextIO

from rich.console import Console
from rich.table import Column, Table

WIDTH_OF_A_LOG = 160


def console(stream: TextIO) -> Console:
    """A console that writes to a stream.

    `is_interactive` says whether it can show a live display. FORCE_COLOR gives a log colours, and
    makes no terminal of it. Characters that the stream's encoding lacks are escaped.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        force_interactive=None if is_terminal else False,
        width=None if is_terminal else WIDTH_OF_A_LOG,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
    )


@contextmanager
def busy(console: Console, doing: str) -> Iterator[None]:
    """Show on a terminal what is being done inside."""
    with console.status(doing) if console.is_interactive else nullcontext():
        yield


def discard_unwritable(stream: TextIO) -> None:
    """Discard what a stream cannot write, on a full disk say: Python would report it at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], title: str | None = None
) -> Table:
    """A table in which a word that is too long for its column goes on in the next line."""
    made = Table(*(Column(name, overflow="fold") for name in columns), title=title)
    for row in rows:
        made.add_row(*map(str, row))
    return made


def count(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
