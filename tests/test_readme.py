"""The commands and examples of the README and the pages in docs/ work as written."""

import dataclasses
import os
import re
import shlex
from pathlib import Path

import pytest

import run_bench
from bench import __version__, cli, options, records
from bench.execution.executors import EXECUTORS
from bench.suites import SUITES
from models import NETWORKS
from solvers import GRADIENTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
PAGES = [
    *(ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "results" / "reference" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
PLACEHOLDERS = {"N": "2", "X": "smoke"}
"""Words that stand for a number or a name in the commands of the pages, and values for them."""


@pytest.fixture
def shown_modules(tmp_path, monkeypatch):
    """The current folder, with every Python module and suite that a page shows."""
    for page in PAGES:
        blocks = r"```(?:python|toml)\n# (\w+\.(?:py|toml))\n(.*?)```"
        shown = re.findall(blocks, _text(page), re.DOTALL)
        for name, code in shown:
            (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_readme_has_at_most_1500_words():
    assert len(README.split()) <= 1500


@every_page
def test_every_command_is_one_that_the_command_line_takes(page, shown_modules):
    for command in _commands(_text(page)):
        arguments = [PLACEHOLDERS.get(word, word) for word in command]
        if arguments[0] not in ("--help", "--print-completion"):  # which print and exit
            assert cli.parse(arguments), command


def test_commands_are_found_in_blocks_and_in_sentences():
    assert len(_commands(README)) >= 10
    page = (
        "`python run_bench.py --suite\n  cost`\n```\ntimeout 9m anode-bench --list \\\n -x &\n```\n"
    )
    assert _commands(page) == [["--suite", "cost"], ["--list", "-x"]]


def test_gradient_method_network_and_tableau_of_ones_own_work_as_shown(shown_modules):
    line = "--suite memory --network my_network:network --method my_method:HEUN --Nt 1"
    line += " --batch_size 2 --gradient mine:MINE,scaled:SCALED:factor=2,node,backprop"
    assert run_bench.main(line.split()) == 0
    table = (shown_modules / "results" / "memory" / "measurements.csv").read_text().splitlines()
    gradients = ["mine:MINE", "scaled:SCALED:factor=2.0", "node", "backprop"]
    assert [row.split(",")[4] for row in table[1:]] == gradients


def test_regression_check_of_ones_own_gradient_works_as_shown(shown_modules, capsys):
    commands = [c for c in _commands(README) if "--reference" in c]
    assert [c[2] for c in commands] == ["--update-reference", "--check"]
    for command in commands:
        assert run_bench.main([*command, "--network", "resnet4", "--method", "euler"]) == 0
    assert "all as they must be" in capsys.readouterr().out
    (shown_modules / "mine.csv").unlink()
    assert run_bench.main(commands[1]) == 2


@every_page
def test_links_pictures_and_sections_are_there_and_nothing_is_left_to_fill_in(page):
    assert "@@" not in _text(page)
    for link in _links(_text(page)):
        file, _, section = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if section and target.suffix == ".md":
            assert section in _sections(_text(target)), link


ROWS = [records.EpochRow, records.Run, records.Measurement]
ROWS += sorted({s.row for s in SUITES.values() if hasattr(s, "row")}, key=lambda row: row.__name__)


def test_every_option_gradient_method_suite_and_column_is_described():
    flags = {flag for action in options.parser()._actions for flag in action.option_strings}
    flags = {f for f in flags if f.startswith("--")} - {"--num-epochs", "--batch-size"}
    columns = {_column(field) for row in ROWS for field in dataclasses.fields(row)} - {"epochs"}
    for page, names in (
        ("options", {f"`{flag}" for flag in flags}),
        ("options", {f"| `{name}" for name in GRADIENTS}),
        ("gradients", {f"\n## {name}\n" for name in GRADIENTS}),
        ("options", {f"`{name}`" for name in [*NETWORKS, *EXECUTORS]}),
        ("options", {f"`{name}`" for name in SUITES}),
        ("suites", {f"`{name}`" for name in SUITES}),
        ("results", {f"`{name}`" for name in columns}),
    ):
        assert {name for name in names if name not in DOCS[page]} == set(), page


def test_changelog_begins_with_the_version_of_the_package():
    first = re.search(r"^## \[(.+?)\]", _text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__


def test_accuracies_of_the_readme_are_those_of_the_records():
    table = ROOT / "results" / "reference" / "cifar10-quick-cpu" / "figures" / "accuracy.md"
    averages = [row.split("|")[5].strip() for row in _text(table).splitlines() if "| 1 |" in row]
    shown = re.findall(
        r"^\| (?:\w|-)+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", README, re.MULTILINE
    )
    recorded = [averages[i : i + 3] for i in range(0, len(averages), 3)]
    assert shown == [(b[:-1], anode[:-1], node[:-1]) for b, node, anode in recorded]


def _column(field: dataclasses.Field) -> str:
    """The first of the columns that a field is written to: a tuple has one for each ODE block."""
    return field.name.removesuffix("s") + "1" if "tuple" in str(field.type) else field.name


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _commands(text: str) -> list[list[str]]:
    """The arguments of every command of this package in a page, in blocks and in sentences."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    sentences = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = re.findall(r"(?<!`)`([^`]+)`(?!`)", sentences) + lines
    found = [re.search(r"(?:run_bench\.py|anode-bench) (--.*)", line, re.DOTALL) for line in lines]
    return [_arguments(command[1]) for command in found if command and "…" not in command[1]]


def _arguments(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((i for i, word in enumerate(words) if word[0] in "&|;"), len(words))
    return [os.path.expandvars(word) for word in words[:end]]


def _links(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'src="([^"]+)"', prose)
    return [link for link in links if not link.startswith("http")]


def _sections(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
