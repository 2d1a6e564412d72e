"""Imports run downwards: the rule of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = {"bench", "models", "plots", "solvers", "run_bench"}
FLOORS = (
    {"commands"},
    {"cli"},
    {"suite_file"},
    {"options"},
    {"suites"},
    {"studies", "execution"},
    {"instruments", "reporting", "peers"},
    {"training"},
    {"context"},
    {"data", "experiment"},
    {"records", "environment", "sources"},
    {"completion", "errors", "plugins", "usage"},
)
"""Rooms of bench, the highest floor first. A room imports from lower floors and from itself."""

MOST_MODULES = 12
"""A folder holds at most a dozen modules, not counting `__init__.py`."""


def imports(file):
    """The project's modules that a file imports, as far as the import names them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            is_package = node.module.split(".")[0] in PROJECT and (
                ROOT.joinpath(*node.module.split(".")).is_dir()
            )
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if is_package else {node.module}
    return {name for name in found if name.split(".")[0] in PROJECT}


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def floor(room):
    numbers = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert len(numbers) == 1, f"{room} of bench needs one place in FLOORS"
    return numbers[0]


def test_packages_import_downwards():
    for folder, allowed in (
        ("solvers", {"solvers"}),
        ("models", {"models", "solvers"}),
        ("bench", {"bench", "models", "solvers"}),
        ("plots", {"plots", "bench"}),
    ):
        for file in files(folder):
            draws = file.parent == ROOT / "bench" / "commands"  # the highest floor of bench
            own = allowed | {"plots"} if draws else allowed
            assert {name.split(".")[0] for name in imports(file)} <= own, file


def test_rooms_of_bench_import_downwards():
    upwards = []
    for file in files("bench"):
        room = file.relative_to(ROOT / "bench").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imports(file):
            other = name.split(".")[1] if name.startswith("bench.") else room
            if other != room and floor(other) <= floor(room):
                upwards.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not upwards, "\n".join(upwards)


def test_no_instrument_imports_another_and_plots_know_the_records_alone():
    for file in files("bench/instruments"):
        assert not {n for n in imports(file) if n.startswith("bench.instruments.")}, file
    for file in files("plots"):
        of_bench = {f"{name}." for name in imports(file) if name.split(".")[0] == "bench"}
        assert all(name.startswith("bench.records.") for name in of_bench), file


def test_folders_hold_at_most_a_dozen_modules():
    for package in ("bench", "solvers", "plots", "models"):
        for folder in {file.parent for file in files(package)}:
            modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
            assert len(modules) <= MOST_MODULES, folder


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("plots, bench.records, run_bench", {"torch"}),
        ("bench.commands", {"ray", "matplotlib", "scipy"}),
    ],
)
def test_heavy_packages_are_imported_where_they_are_needed(modules, absent):
    line = f"import sys, {modules}; sys.exit(bool({absent!r} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", line], cwd=ROOT, check=False).returncode == 0
