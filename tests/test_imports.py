"""Imports run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = {"bench", "models", "plots", "solvers", "run_bench"}
INSTRUMENTS = {"training", "gradient_error", "memory", "cost", "lipschitz", "reversibility"}
FOUNDATIONS = {
    "bench",
    *(
        f"bench.{name}"
        for name in (
            "errors",
            "files",
            "layout",
            "records",
            "experiment",
            "nfe",
            "clock",
            "captured",
            "precision",
        )
    ),
}


def imports(file):
    """The project's modules that a file imports, as far as the import names them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module)
            if node.module in PROJECT:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PROJECT}


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("solvers", {"solvers"}),
        ("models", {"models", "solvers"}),
        ("bench", {"bench", "models", "solvers"}),
        ("plots", {"plots", "bench"}),
    ],
)
def test_packages_import_downwards(folder, allowed):
    for file in files(folder):
        assert {name.split(".")[0] for name in imports(file)} <= allowed, file


def test_plots_know_of_records_and_files_alone():
    for file in files("plots"):
        of_bench = {name for name in imports(file) if name.split(".")[0] == "bench"}
        assert of_bench <= {"bench", "bench.records", "bench.errors", "bench.records.files"}, file


def test_no_instrument_imports_another():
    for instrument in INSTRUMENTS:
        others = {f"bench.{other}" for other in INSTRUMENTS - {instrument}}
        assert not imports(ROOT / "bench" / f"{instrument}.py") & others


def test_instruments_stand_on_data_and_records():
    for instrument in INSTRUMENTS:
        of_bench = {n for n in imports(ROOT / "bench" / f"{instrument}.py") if "bench" in n}
        assert all(n in FOUNDATIONS or n.startswith("bench.data") for n in of_bench), instrument


@pytest.mark.parametrize(
    "package",
    ["data", "records", "errors", "experiment", "nfe", "faults", "files", "locks", "checkpoint"],
)
def test_foundations_do_not_reach_up(package):
    place = ROOT / "bench" / package
    above = INSTRUMENTS | {
        *(
            "cli",
            "options",
            "listing",
            "suites",
            "executors",
            "processes",
            "worker",
            "run",
            "workload",
            "elsewhere",
        ),
        *("step_costs", "gate", "studies", "trainer", "keeper", "course", "sharing", "aside"),
    }
    for file in files(place) if place.is_dir() else [place.with_suffix(".py")]:
        assert not imports(file) & {f"bench.{name}" for name in above}, file


def test_ray_is_imported_only_when_it_is_asked_for():
    knows = [file for file in files("bench") if "import ray" in file.read_text(encoding="utf-8")]
    assert knows
    assert all(file.parent.name == "cluster" for file in knows)
    asks = [
        f"{file.parent.name}/{file.name}"
        for file in [*files("bench"), ROOT / "run_bench.py"]
        if file.parent.name != "cluster" and any("cluster" in name for name in imports(file))
    ]
    assert asks == ["bench/execution/executors.py"]
    line = "import sys, run_bench; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], cwd=ROOT, check=False).returncode == 0
