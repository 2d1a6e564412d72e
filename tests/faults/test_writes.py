"""Writes that fail: each of them, one after the other."""

import math
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import run_bench
from bench import cli, records
from bench.records import ASIDE
from bench.studies.reversibility import ReversibilityStudy
from tests.bench.builders import write_images
from tests.faults.command import ROOT, tables
from tests.faults.disk import FILLING, FULL, GONE, READ_ONLY, Disk, mounted, unprivileged

pytestmark = pytest.mark.fault("writes")

TINY = (
    "--network resnet4 --train-images 20 --test-images 10 --batch_size 10 --num_epochs 2 "
    "--data-dir images"
)
STEPS = "--suite memory --network resnet4 --method euler --Nt 1,2 --gradient anode --batch_size 1"
TRAIN = f"{TINY} --gradient anode"


class OfImages(ReversibilityStudy):
    """The images alone: the other problems take a minute, and are written all at once."""

    figures = ("reversal_pictures",)

    def cases(self):
        return tuple(self._of_images(self.schemes))


PICTURES = OfImages(
    "reversibility",
    "one image, one step",
    activations=("relu",),
    image_steps=(1,),
)
COMMANDS = {
    "train": TRAIN,
    "fresh": f"{TRAIN} --fresh",
    "draw": f"{TINY} --gradient node --plots-only",
    "measure": STEPS,
    "measure anew": f"{STEPS} --fresh",
    "picture": f"--suite {__name__}:PICTURES --method euler --seeds 0",
    "reference": f"{STEPS} --update-reference --reference out/own.csv",
}
"""What is done in a folder where something is recorded already."""

FAILURES = [(FULL, True), (READ_ONLY, False), (FILLING, False), (GONE, False)]
EACH = [
    *(("train", *failure) for failure in [*FAILURES, (FULL, False), (READ_ONLY, True)]),
    *((name, *failure) for name in COMMANDS if name != "train" for failure in FAILURES),
]
"""Command, what fails, and whether it goes on to fail."""
EACH.remove(("draw", GONE, False))  # then there is nothing to draw

TOLERATED = re.compile(r"The decoded images could not be kept in \S+ \([^)\n]+\)\.\n")
"""What is only for the next time is told, and no error."""


DRAWING = b"drawn " * 200 + b"drawn!"
ENDS = {suffix: b"\n" for suffix in (".csv", ".json", ".md")}
ENDS |= {".png": (b"IEND\xaeB`\x82", b"drawn!"), ".svg": (b"</svg>\n", b"drawn!")}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A folder with data and some records, a checkpoint that is damaged, and what a process that
    was killed had not finished."""
    place = tmp_path_factory.mktemp("before")
    write_images(place / "images")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        for line in (f"{TINY} --gradient node", f"{STEPS.replace('1,2', '4')}"):
            assert run_bench.main([*line.split(), "--out", "out"]) == 0
    (place / "images-decoded.npz").unlink()
    (place / ".images-decoded.npz-killed.part").write_bytes(b"half")
    (experiment,) = cli.parse(TRAIN.split()).experiments
    folder = place / "out" / "smoke" / experiment.name
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"damaged")
    (folder / ".checkpoint.pt-killed.part").write_bytes(b"half")
    table = next((place / "out" / "smoke" / "figures").glob("*/accuracy.md"))
    table.with_name(".accuracy.md-killed.part").write_bytes(b"half")
    return place


@dataclass
class Place:
    """A copy of what was there before, and one command that is given in it."""

    folder: Path
    words: list[str]
    capsys: pytest.CaptureFixture

    def give(self, disk: Disk | None = None) -> tuple[int, str]:
        """The exit code, and what is said on stderr."""
        with mounted(disk or Disk([])):
            code = run_bench.main(self.words)
        return code, self.capsys.readouterr().err

    def disk(self, *args, **kwargs) -> Disk:
        return Disk([self.folder / "out", self.folder], *args, **kwargs)

    def files(self) -> list[str]:
        """All that is there, but for what was moved aside."""
        found = (file.relative_to(self.folder) for file in self.folder.rglob("*"))
        return sorted(str(file) for file in found if not any(ASIDE in p for p in file.parts))

    def records(self) -> Counter:
        """What is recorded anywhere, as it stands in the files."""
        return Counter(file.read_bytes() for file in self.folder.rglob("epochs.csv"))

    def torn(self) -> list[Path]:
        """Files under their own names that break off."""
        files = (file for file in (self.folder / "out").rglob("*") if file.suffix in ENDS)
        return [file for file in files if not file.read_bytes().endswith(ENDS[file.suffix])]

    def read(self) -> None:
        """Raises UsageError where a record cannot be read."""
        for suite in (self.folder / "out").glob("smoke*"):
            if any(suite.rglob("run.json")):
                records.load(suite)
        for file in (self.folder / "out").glob("memory*/measurements.csv"):
            records.read_rows(file, records.MemoryRow)


@pytest.fixture
def place_for(before, tmp_path, monkeypatch, capsys):
    def make(line):
        folder = tmp_path / "place"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        monkeypatch.chdir(folder)
        capsys.readouterr()
        out = [] if "--reference" in line else ["--out", "out"]
        return Place(folder, [*line.split(), *out], capsys)

    return make


@pytest.fixture
def quickly_drawn(monkeypatch):
    """Figures that take no time to draw, and are written to where they are written."""

    def savefig(figure, place, **kwargs):
        if hasattr(place, "write"):
            place.write(DRAWING)
        else:
            Path(place).write_bytes(DRAWING)

    monkeypatch.setattr(Figure, "savefig", savefig)


def undisturbed(place_for, line, kind):
    """The writes that such a disk sees when it does not fail, and what is there at the end."""
    place = place_for(line)
    disk = place.disk(kind, at=10**9)
    assert place.give(disk) == (0, "")
    assert disk.writes
    return disk.writes, tables(place.folder / "out" / "smoke"), place.files()


def fails(place_for, line, kind, stays, at, expected, files):
    """One write fails; then the same command is given again."""
    place = place_for(line)
    known = place.records()
    disk = place.disk(kind, at, stays=stays)
    code, said = place.give(disk)
    which = f"{line}: {kind} at write {at}, {disk.writes[at]}: {said}"
    assert disk.has_failed, which
    said = TOLERATED.sub("", said, count=1)
    if code == 0:
        assert said == "", which
    else:
        assert code == 2, which
        assert re.fullmatch(r"error: [^\n]+: [^\n]+\n", said), which
    if kind != GONE:
        assert place.records() >= known, which
    place.read()
    assert not place.torn(), which
    assert place.give() == (0, ""), which
    found = tables(place.folder / "out" / "smoke")
    if kind == GONE:  # and with it what was there before
        assert found.items() <= expected.items(), which
    else:
        assert found == expected, which
        assert place.files() == files, which


def test_every_write_of_a_run_is_seen(place_for):
    place = place_for(TRAIN)
    disk = place.disk(READ_ONLY, at=10**9)
    assert place.give(disk)[0] == 0
    said = "\n".join(disk.writes)
    for written in (
        *("images-decoded.npz", "locks/measurements.csv.lock", "smoke/measurements.csv"),
        *("checkpoint.pt.damaged", "checkpoint.pt", "epochs.csv", "run.json", "figures.lock"),
        *(f"{figure}-rk2-nt2.png" for figure in ("training", "gradient_error", "cost")),
        *("cost-rk2-nt2.svg", "accuracy.csv", "accuracy.md", "report.html"),
    ):
        assert f"{written}\n" in f"{said}\n", written


FEW = [
    (FULL, True, r"open .*measurements\.csv-\w+\.part"),
    (FULL, False, r"open .*cost-rk2-nt2\.svg-\w+\.part"),
    (READ_ONLY, False, r"os\.remove .*/checkpoint\.pt"),
    (READ_ONLY, True, r"open .*figures\.lock"),
    (FILLING, False, r"open .*/\.run\.json-\w+\.part"),
    (FILLING, True, r"open .*training-rk2-nt2\.png-\w+\.part"),
    (GONE, False, r"open .*epochs\.csv-\w+\.part"),
]
"""What fails, whether it goes on to fail, and the write with which it begins."""


def test_write_that_fails_is_one_line_and_the_same_command_completes(
    place_for, quickly_drawn, injected
):
    seen = {kind: undisturbed(place_for, TRAIN, kind) for kind in (FULL, READ_ONLY, FILLING, GONE)}
    for kind, stays, begins in FEW:
        writes, expected, files = seen[kind]
        at = next(i for i, write in enumerate(writes) if re.fullmatch(begins, write))
        fails(place_for, TRAIN, kind, stays, at, expected, files)
        injected(1, "a clear line, records kept, the same command completes")


@pytest.mark.faults
@pytest.mark.parametrize(("command", "kind", "stays"), EACH)
def test_each_write_that_fails_is_one_line_and_the_same_command_completes(
    command, kind, stays, place_for, quickly_drawn, injected
):
    line = COMMANDS[command]
    writes, expected, files = undisturbed(place_for, line, kind)
    for at in range(len(writes)):
        fails(place_for, line, kind, stays, at, expected, files)
        injected(1, "a clear line, records kept, the same command completes")


# --- what the kernel refuses


READ_ONLY_FOLDERS = {
    "out": 2,
    "out/smoke": 2,
    "out/smoke/.locks": 2,
    "out/smoke/figures": 2,
    "out/smoke/RUN": 2,
    ".": 0,  # where the decoded images would be kept
}
"""Folder → the exit code where nobody may write to it."""


@pytest.mark.parametrize("name", READ_ONLY_FOLDERS)
def test_folder_that_is_read_only_is_one_line(name, place_for, injected):
    place = place_for(TRAIN)
    known = place.records()
    (experiment,) = cli.parse(TRAIN.split()).experiments
    folder = place.folder / name.replace("RUN", experiment.name)
    if name == "out":
        (folder / "smoke").rename(folder / "smoke.aside-")  # of which there is none then
    folder.chmod(0o555)
    try:
        with unprivileged():
            code, said = place.give()
    finally:
        folder.chmod(0o755)
    assert code == READ_ONLY_FOLDERS[name], said
    wanted = TOLERATED if code == 0 else re.compile(r"error: cannot [^\n]+: [^\n]+\n")
    assert wanted.fullmatch(TOLERATED.sub("", said) if code else said), said
    assert place.records() >= known
    assert place.give() == (0, "")
    injected(1, "a clear line, records kept, the same command completes")


def limited(size, *arguments, out, log):
    """The command in a process that can write no file longer than so many bytes, and goes on with
    this log; returns the exit code and what is said on stderr."""
    with log.open("a") as stream:
        process = subprocess.run(
            [sys.executable, "run_bench.py", *arguments, "--out", str(out)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
    return process.returncode, process.stderr


SMALL = "--network resnet4 --train-images 20 --test-images 10 --batch_size 10 --num_epochs 1"


def test_log_that_cannot_be_written_is_one_line(tmp_path, injected):
    log, size = tmp_path / "log", 2**30
    log.touch()
    os.truncate(log, size)
    code, said = limited(size, *SMALL.split(), out=tmp_path / "out", log=log)
    assert code == 2
    assert re.fullmatch(r"error: File too large: fix this and run the same command again\n", said)
    injected(1, "a clear line, records kept, the same command completes")


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
def test_files_that_cannot_be_longer_than_some_bytes_are_one_line(tmp_path, jobs, injected):
    line = [*SMALL.split(), "--gradient", "anode,node", "--jobs", str(jobs)]
    code, said = limited(2**40, *line, out=tmp_path / "never", log=tmp_path / "log")
    assert (code, said) == (0, "")
    expected = tables(tmp_path / "never")
    longest = max(file.stat().st_size for file in (tmp_path / "never").rglob("*"))
    sizes = random.Random(jobs)
    for i in range(5):
        out = tmp_path / str(i)
        size = int(2 ** sizes.uniform(10, math.log2(2 * longest)))
        code, said = limited(size, *line, out=out, log=tmp_path / "log")
        assert code in (0, 2)
        assert re.fullmatch(r"error: [^\n]+: [^\n]+\n" if code else "", said), said
        code, said = limited(2**40, *line, out=out, log=tmp_path / "log")
        assert (code, said) == (0, "")
        assert tables(out) == expected
        assert not list(out.rglob("*.part"))
        injected(1, "a clear line, records kept, the same command completes")
