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
from bench.suites import SUITES
from tests.bench.builders import write_images

TINY = ["--network", "resnet4", "--gradient", "anode", "--num_epochs", "1"]
TINY += ["--train-images", "20", "--test-images", "10", "--batch_size", "10"]
MOVES = re.compile(r"\r|\x1b\[[^m]*[A-LN-Za-ln-z]")
"""Output of a live display: returns, and escape sequences other than colours."""


def narrow(width=80):
    console = terminal.console(io.StringIO())
    console.width = width
    return console


@pytest.mark.parametrize("suite", ["smoke", "memory"])
def test_log_of_a_command_holds_no_live_display(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    line = ["--network", "resnet4", "--suite", "memory", "--Nt", "1", "--gradient", "anode"]
    if suite == "smoke":
        line = [*TINY, "--data-dir", str(write_images(tmp_path / "images"))]
    assert run_bench.main([*line, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.out
    assert not MOVES.search(said.out + said.err)


def test_list_in_a_log_holds_no_live_display_and_every_suite(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run_bench.main(["--list", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert not MOVES.search(said)
    for suite, runs in (("smoke", 12), ("cifar10-short", 84), ("cifar10", 140), ("cifar100", 3)):
        assert re.search(rf" {suite} +│ {runs} ", said)
    assert all(suite in said for suite in SUITES)


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


def test_name_that_a_log_of_status_shows_is_what_reproduce_takes(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert run_bench.main([*TINY, *out]) == 0
    capsys.readouterr()
    assert run_bench.main([*TINY, *out, "--status"]) == 0
    name = capsys.readouterr().out.split()[0]
    assert run_bench.main(["--reproduce", name, *out]) == 0


@given(st.text("abc-_.", min_size=1), st.integers(24, 80))
def test_cell_of_a_table_is_whole_at_any_width(name, width):
    long = "something that takes a lot of words to be said and is long"
    table = terminal.table(("name", "what is wrong"), [(name, long)])
    console = narrow(width)
    console.print(table)
    cells = [line.split("│")[1] for line in console.file.getvalue().splitlines() if "│" in line]
    assert "".join(cell.strip() for cell in cells) == name
