"""A log holds no live display, whatever FORCE_COLOR says, and nothing that is printed is cut."""

import io
import pty
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import run_bench
from bench import cli
from bench.commands import status
from bench.reporting import terminal
from tests.bench.builders import ONE_EPOCH_LINE, write_images

MOVES = re.compile(r"\r|\x1b\[[^m]*[A-LN-Za-ln-z]")
"""Output of a live display: returns, and escape sequences other than colours."""


def narrow(width=80):
    console = terminal.console(io.StringIO())
    console.width = width
    return console


@pytest.mark.parametrize(
    "line",
    [
        f"{ONE_EPOCH_LINE} --gradient anode --data-dir images",
        "--suite memory --network resnet4 --Nt 1 --gradient anode",
        "--list",
    ],
)
def test_log_of_a_command_holds_no_live_display(line, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    assert run_bench.main(line.split()) == 0
    said = capsys.readouterr()
    assert said.out
    assert not MOVES.search(said.out + said.err)


def test_terminal_shows_a_live_display_and_a_file_does_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    controller, stream = pty.openpty()
    with open(stream, "w") as shown, open(controller):
        assert terminal.console(shown).is_interactive
    assert not terminal.console(io.StringIO()).is_interactive


def test_status_shows_every_name_whole_in_a_line_of_its_own(tmp_path):
    request = cli.parse(["--suite", "cifar10-quick", "--status", "--out", str(tmp_path)])
    console = narrow()
    status.show_runs(request, console)
    lines = console.file.getvalue().splitlines()
    names = [experiment.name for experiment in request.experiments]
    assert max(map(len, names)) > 70
    assert [line.split()[0] for line in lines[:-1]] == names


@given(st.text("abc-_.", min_size=1), st.integers(24, 80))
def test_cell_of_a_table_is_whole_at_any_width(name, width):
    long = "something that takes a lot of words to be said and is long"
    table = terminal.table(("name", "what is wrong"), [(name, long)])
    console = narrow(width)
    console.print(table)
    cells = [line.split("│")[1] for line in console.file.getvalue().splitlines() if "│" in line]
    assert "".join(cell.strip() for cell in cells) == name
