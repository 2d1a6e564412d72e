"""Every single write of a command may fail: one clear line, no record lost, and the same command
completes afterwards."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

import run_bench
from bench import cli, records
from bench.records import ARCHIVE
from tests.bench.builders import write_images
from tests.faults.command import tables
from tests.faults.disk import FULL, READ_ONLY, Disk, mounted

pytestmark = [pytest.mark.fault("writes"), pytest.mark.usefixtures("quickly_drawn")]

TINY = (
    "--network resnet4 --train-images 20 --test-images 10 --batch_size 10 --num_epochs 2 "
    "--data-dir images"
)
MEMORY = "--suite memory --network resnet4 --method euler --Nt 1,2 --gradient anode --batch_size 1"
COMMANDS = {
    "train": f"{TINY} --gradient anode",
    "fresh": f"{TINY} --gradient anode --fresh",
    "draw": f"{TINY} --gradient node --plots-only",
    "measure": MEMORY,
    "measure anew": f"{MEMORY} --fresh",
    "reference": f"{MEMORY} --update-reference --reference out/own.csv",
}
FAILURES = [(FULL, True), (FULL, False), (READ_ONLY, False)]
"""Error of a write, and whether all later writes fail too."""

NO_CACHE = re.compile(r"The decoded images could not be kept in \S+ \([^)\n]+\)\.\n")
"""The decoded images only save time: that they cannot be kept is no error."""

ENDS = {**dict.fromkeys((".csv", ".json", ".md"), b"\n"), ".png": b"drawn", ".svg": b"drawn"}
COMPLETES = "a clear line, records kept, the same command completes"


@pytest.fixture(scope="module")
def before(tmp_path_factory, quickly_drawn):
    """Images, records, and a damaged checkpoint."""
    place = tmp_path_factory.mktemp("before")
    write_images(place / "images")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        for line in (f"{TINY} --gradient node", MEMORY.replace("1,2", "4")):
            assert run_bench.main([*line.split(), "--out", "out"]) == 0
    (place / "images-decoded.npz").unlink()
    (experiment,) = cli.parse(COMMANDS["train"].split()).experiments
    folder = place / "out" / "smoke" / experiment.name
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"damaged")
    return place


@pytest.fixture
def fresh_place(before, tmp_path, monkeypatch):
    """Call it: the current folder is a new copy of `before`."""

    def make():
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(tmp_path / "place", ignore_errors=True)
        shutil.copytree(before, tmp_path / "place")
        monkeypatch.chdir(tmp_path / "place")

    return make


def call(line, capsys, disk):
    """Run the command on this disk; return its exit code and stderr."""
    out = [] if "--reference" in line else ["--out", "out"]
    capsys.readouterr()
    with mounted(disk):
        code = run_bench.main([*line.split(), *out])
    return code, capsys.readouterr().err


def all_files():
    """Every file and folder, without those that were moved aside."""
    return sorted(str(f) for f in Path().rglob("*") if not any(ARCHIVE in part for part in f.parts))


def recorded():
    return Counter(file.read_bytes() for file in Path().rglob("epochs.csv"))


def check_that_all_is_readable():
    """No file has a torn end, and no record is damaged."""
    for file in Path("out").rglob("*"):
        assert file.suffix not in ENDS or file.read_bytes().endswith(ENDS[file.suffix]), file
    for suite in Path("out").glob("smoke*"):
        if any(suite.rglob("run.json")):
            records.load(suite)
    for file in Path("out").glob("memory*/measurements.csv"):
        records.read_rows(file, records.MemoryRow)


def check_failures(line, kind, stays, chosen, fresh_place, capsys, injected):
    """Fail each chosen write in turn, then give the same command again."""
    fresh_place()
    disk = Disk(Path(), kind, 10**9)  # healthy
    assert call(line, capsys, disk) == (0, "")
    expected, files = tables(Path("out/smoke")), all_files()
    assert not [file for file in files if file.endswith(".part")]
    parts = [re.fullmatch(r"open (.*-)\w+\.part", write) for write in disk.writes]
    unfinished = {
        Path(f"{part[1]}killed.part") for part in parts if part and ARCHIVE not in part[1]
    }
    for at in chosen(disk.writes):
        fresh_place()
        for file in unfinished:  # of a process that was killed
            if file.parent.is_dir():
                file.write_bytes(b"half")
        known, failing = recorded(), Disk(Path(), kind, at, stays=stays)
        code, said = call(line, capsys, failing)
        which = f"{line}: {kind} at write {at}, {failing.writes[at]}: {said}"
        assert failing.has_failed, which
        said = NO_CACHE.sub("", said, count=1)
        assert code in (0, 2), which
        assert re.fullmatch(r"error: [^\n]+: [^\n]+\n" if code else "", said), which
        assert recorded() >= known, which
        check_that_all_is_readable()
        assert call(line, capsys, Disk(Path(), FULL, 10**9)) == (0, ""), which
        assert (tables(Path("out/smoke")), all_files()) == (expected, files), which
        injected(1, COMPLETES)


def test_record_that_cannot_be_written_is_one_line_and_the_same_command_completes(
    fresh_place, capsys, injected
):
    def chosen(writes):
        begins = r"open .*/\.run\.json-\w+\.part"
        return [next(i for i, write in enumerate(writes) if re.fullmatch(begins, write))]

    check_failures(COMMANDS["train"], FULL, False, chosen, fresh_place, capsys, injected)


@pytest.mark.faults
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("kind", "stays"), FAILURES)
def test_every_write_that_fails_is_one_line_and_the_same_command_completes(
    command, kind, stays, fresh_place, capsys, injected
):
    def chosen(writes):
        return range(len(writes))

    check_failures(COMMANDS[command], kind, stays, chosen, fresh_place, capsys, injected)
