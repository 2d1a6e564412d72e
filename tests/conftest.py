import hashlib
import signal
import tarfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

from tests.faults.report import FaultsReport

settings.register_profile("bench", deadline=None, derandomize=True)
settings.load_profile("bench")


def pytest_addoption(parser):
    parser.addoption(
        "--faults-report", type=Path, metavar="FILE", help="write there what was injected"
    )


def pytest_configure(config):
    config.pluginmanager.register(FaultsReport(), FAULTS)


@pytest.fixture
def injected(request):
    """Call it with how often a fault was injected and what came out, when that is seen. The test's
    marker `fault` says which row of the report it is counted in."""
    (row,) = request.node.get_closest_marker("fault").args
    report = request.config.pluginmanager.get_plugin(FAULTS)
    return partial(report.count, row)


FAULTS = "faults-report"
ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "cifar10-images.tar.xz"
ARCHIVE_SHA256 = "a5350f6189ad8fd8f85471bc6d29ed42fa926029cfb20f8878e3215e583f9a55"


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A shell has what it runs in the background ignore Ctrl-C, which is what some tests press."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_images(tmp_path_factory):
    """The folder of all 60,000 real CIFAR-10 images, where the archive is at hand."""
    if not ARCHIVE.exists():
        pytest.skip(f"the real images ({ARCHIVE.name}) are not beside this checkout")
    assert hashlib.sha256(ARCHIVE.read_bytes()).hexdigest() == ARCHIVE_SHA256
    folder = tmp_path_factory.mktemp("real") / "cifar10-images"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder
