"""A damaged file in a folder of results is set aside and made anew, and never read as data."""

import shutil

import pytest

import run_bench
from bench import records
from bench.training import checkpoint
from tests.bench.builders import ONE_EPOCH_LINE, interrupted_after_an_epoch
from tests.faults.command import tables

TRAIN = ONE_EPOCH_LINE.replace("--num_epochs 1", "--num_epochs 2") + " --gradient"
MEASURE = "--suite memory --network resnet4 --method euler --Nt 1,2 --gradient anode --batch_size 2"
LINES = (f"{TRAIN} anode,node", MEASURE)


def finished(place, capsys):
    """Run both commands; return what they print, and all that is recorded but times."""
    capsys.readouterr()
    for line in LINES:
        assert run_bench.main([*line.split(), "--out", str(place)]) == 0
    rows = records.read_rows(place / "memory" / records.MEASUREMENTS, records.MemoryRow)
    said = capsys.readouterr()
    assert said.err == ""
    return said.out, (tables(place), sorted(map(str, rows)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results: a run, the checkpoint of another one, step costs, and measurements."""
    place = tmp_path_factory.mktemp("whole")
    for line in (f"{TRAIN} anode", MEASURE):
        assert run_bench.main([*line.split(), "--out", str(place)]) == 0
    with interrupted_after_an_epoch():
        assert run_bench.main([*LINES[0].split(), "--out", str(place)]) == 130
    return place


DAMAGES = {
    "emptied": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "changed": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
}
EVERY = [pytest.param(how, marks=pytest.mark.faults) for how in ("emptied", "changed")]


@pytest.mark.fault("results")
@pytest.mark.usefixtures("quickly_drawn")
@pytest.mark.parametrize("how", ["truncated", *EVERY])
def test_damaged_file_is_made_anew_and_never_read(whole, tmp_path, capsys, how, injected):
    shutil.copytree(whole, tmp_path / "undisturbed")
    _, expected = finished(tmp_path / "undisturbed", capsys)
    patterns = ("run.json", "epochs.csv", checkpoint.NAME, "measurements.csv", "measurements.json")
    files = [file for pattern in patterns for file in whole.rglob(pattern)]
    assert len(files) == 3 + 2 * 2
    for file in files:
        place = tmp_path / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        damaged = place / file.relative_to(whole)
        damaged.write_bytes(DAMAGES[how](file.read_bytes()))
        said, recorded = finished(place, capsys)
        assert " is damaged (" in said, file
        assert recorded == expected, file
        injected(1, "said in a line, set aside, the same records in the end")
