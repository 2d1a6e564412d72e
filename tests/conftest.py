import hashlib
import signal
import tarfile
from collections import Counter
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure

from bench.data import generated
from tests.faults.report import FaultsReport

generated.load = cache(generated.load)  # takes a second, and many tests train on it
torch.set_num_threads(1)  # several wait for each other in busy loops: slow beside other work
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
    """Call it with a number of injected faults and what came out of them; the test's marker `fault`
    names the row of the report."""
    (row,) = request.node.get_closest_marker("fault").args
    report = request.config.pluginmanager.get_plugin(FAULTS)
    return partial(report.count, row)


FAULTS = "faults-report"
ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "cifar10-images.tar.xz"
ARCHIVE_SHA256 = "a5350f6189ad8fd8f85471bc6d29ed42fa926029cfb20f8878e3215e583f9a55"


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Heed SIGINT, which the children of a background shell ignore: some tests send it."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def quickly_drawn():
    """Figures that take no time to draw; their files are written as usual."""

    def savefig(figure, place, **kwargs):
        place.write(b"drawn") if hasattr(place, "write") else Path(place).write_bytes(b"drawn")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "savefig", savefig)
        patched.setattr(Figure, "draw_without_rendering", lambda figure: None)
        yield


@pytest.fixture(scope="session")
def real_images(tmp_path_factory):
    """The folder of every tenth real CIFAR-10 image, where the archive is at hand."""
    if not ARCHIVE.exists():
        pytest.skip(f"the real images ({ARCHIVE.name}) are not beside this checkout")
    assert hashlib.sha256(ARCHIVE.read_bytes()).hexdigest() == ARCHIVE_SHA256
    folder, counts = tmp_path_factory.mktemp("real") / "cifar10-images", Counter()
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            place = Path(member.name).parent
            if member.isfile() and counts[place] % 10 == 0:
                archive.extract(member, folder, filter="data")
            counts[place] += member.isfile()
    assert sum(counts.values()) >= 60_000
    return folder
