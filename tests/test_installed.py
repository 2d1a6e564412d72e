"""The package installed from its wheel, called from a folder that holds nothing of this project."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench

ROOT = Path(__file__).parents[1]
NETWORK = "from models.resnet import resnet4 as net"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that pip installed the package into, without its dependencies."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("building a wheel without a package index needs setuptools: pip install it")
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    local = ["--no-deps", "--no-index"]
    source = place / "source"  # building writes into the folder that it builds
    for name in ("bench", "models", "plots", "solvers", "results/reference"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "setup.py", "run_bench.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheel = [*pip, "wheel", *local, "--no-build-isolation", "--wheel-dir", str(place), str(source)]
    subprocess.run(wheel, check=True)
    built = next(place.glob("*.whl"))
    subprocess.run(
        [*pip, "install", *local, "--target", str(place / "site"), str(built)], check=True
    )
    return place / "site"


@pytest.fixture
def anode_bench(site, tmp_path):
    """Call the installed command in an empty folder."""

    def call(*arguments):
        return subprocess.run(
            [sys.executable, str(site / "bin" / "anode-bench"), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def files(folder):
    return {file for file in folder.rglob("*") if "__pycache__" not in file.parts}


def test_suite_writes_into_the_current_folder_whatever_else_is_there(anode_bench, site, tmp_path):
    assert anode_bench("--version").stdout == f"anode-bench {bench.__version__}\n"
    (tmp_path / "mine.py").write_text(NETWORK)
    for name in ("plots", "models", "bench"):  # the user's, called like ours
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('it was imported')")
    before = files(site)
    small = ["--network", "mine:net", "--num_epochs", "1", "--train-images", "64"]
    run = anode_bench(*small, "--gradient", "anode,node", "--jobs", "2")
    assert run.returncode == 0, run.stderr + run.stdout
    records = [*(tmp_path / "results" / "smoke").glob("*/run.json")]
    assert len(records) == 2
    for record in records:
        environment = json.loads(record.read_text(encoding="utf-8"))["environment"]
        assert environment["git_revision"] is None  # the installed code ran, not a checkout's
        assert environment["version"] == bench.__version__
        assert "/anode-bench --network mine:net" in environment["command"]
    assert list((tmp_path / "results" / "smoke" / "figures").glob("*/training-*.png"))
    assert list((tmp_path / "results" / "smoke" / "figures").glob("*/report.html"))
    assert files(site) == before


METHOD = """
from solvers import odeint

class Mine:
    name = "mine:MINE"
    exactness = "exact"

    def solve(self, rhs, z0, method, n_steps):
        return odeint(rhs, z0, method=method, n_steps=n_steps, gradient="backprop")

MINE = Mine()
"""


def test_regression_check_has_its_reference_and_takes_one_of_the_users_own(anode_bench, tmp_path):
    check = ["--suite", "gradients", "--network", "resnet4", "--method", "euler", "--gradient"]
    run = anode_bench(*check, "anode", "--check")
    assert run.returncode == 0, run.stderr + run.stdout
    assert "all as they must be" in run.stdout
    (tmp_path / "mine.py").write_text(METHOD)
    for action in ("--update-reference", "--check"):
        run = anode_bench(*check, "mine:MINE", action, "--reference", "mine.csv")
        assert run.returncode == 0, run.stderr + run.stdout


def test_reference_is_not_updated_in_the_package(anode_bench, site):
    before = {file: file.read_bytes() for file in files(site) if file.is_file()}
    run = anode_bench("--suite", "gradients", "--update-reference")
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "name one of your own with --reference FILE" in run.stderr
    assert {file: file.read_bytes() for file in files(site) if file.is_file()} == before


@pytest.mark.parametrize("place", ["models/mine.py", "plots.py"])
def test_users_module_called_like_one_of_ours_is_refused(anode_bench, tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(NETWORK)
    module = place.removesuffix(".py").replace("/", ".")
    run = anode_bench("--status", "--network", f"{module}:net")
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert f"{module.partition('.')[0]!r} is a package of anode-bench" in run.stderr
