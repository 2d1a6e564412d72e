"""Files in a folder of results that are not what was written."""

import contextlib
import io
import shutil

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import run_bench
from bench import records
from bench.errors import UsageError
from bench.training import checkpoint
from tests.bench.builders import write_images
from tests.faults.command import kill, read_until, start, tables

pytestmark = pytest.mark.fault("results")

FEW = "--train-images 20 --test-images 10 --batch_size 10 --num_epochs 2 --network resnet4"
TRAIN = f"--suite smoke {FEW} --gradient baseline,anode,node"
MEASURE = "--suite memory --network resnet4 --Nt 1,2 --gradient anode,node"


def command(line, place):
    """Its exit code, and what it says and complains of."""
    said, complaint = io.StringIO(), io.StringIO()
    images = ["--data-dir", str(place / "images")] if line == TRAIN else []
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        code = run_bench.main([*line.split(), *images, "--out", str(place / "results")])
    return code, said.getvalue(), complaint.getvalue()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As what `start` starts has: another number rounds otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Images, their cache, and results: two runs, a checkpoint of a third, and measurements."""
    place = tmp_path_factory.mktemp("whole")
    write_images(place / "images", per_class=2)
    results = place / "results"
    options = [*TRAIN.split(), "--data-dir", str(place / "images")]
    process = start(*options, out=results)
    read_until(process, "-anode-")
    while not list(results.rglob(checkpoint.NAME)):
        assert process.poll() is None
    kill(process)
    assert command(MEASURE, place)[0] == 0
    return place


@pytest.fixture(scope="module")
def undisturbed(whole, tmp_path_factory):
    """What the commands make of it."""
    place = tmp_path_factory.mktemp("undisturbed") / "copy"
    shutil.copytree(whole, place)
    assert (command(TRAIN, place)[0], command(MEASURE, place)[0]) == (0, 0)
    return found(place)


def found(place):
    """All that is recorded, but for times."""
    rows = records.read_rows(place / "results/memory/measurements.csv", records.MemoryRow)
    runs = records.load_runs(place / "results" / "smoke")
    return tables(place / "results"), sorted(map(str, rows)), sorted(runs["final_test_accuracy"])


def damage(file, how, where, bit):
    content = file.read_bytes()
    position = int(where * len(content))
    if how == "deleted":
        file.unlink()
    elif how == "emptied":
        file.write_bytes(b"")
    elif how == "truncated":
        file.write_bytes(content[:position])
    else:
        flipped = bytearray(content)
        if content:
            flipped[position] ^= 1 << bit
        file.write_bytes(bytes(flipped))


def check_damaged(whole, undisturbed, scratch, injected, which, how, where, bit):
    place = scratch / "copy"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    files = sorted(f for f in place.rglob("*") if f.is_file() and f.suffix not in (".png", ".svg"))
    images = [file for file in files if "images" in file.parts]
    others = [file for file in files if file not in images]  # the cache too, in DIR-decoded.npz
    damage(others[int(which * len(others))], how, where, bit)
    before = records.load(whole / "results" / "smoke")
    with contextlib.suppress(UsageError):  # which is what it says of damaged records
        now = records.load(place / "results" / "smoke")
        runs = before["run"].isin(now["run"])
        # Which columns there are, and in which order, depends on the runs that there are.
        then = before.loc[runs, list(now.columns)].reset_index(drop=True)
        pd.testing.assert_frame_equal(then, now, check_dtype=False)
    heard = ""
    for line in (TRAIN, MEASURE):
        code, said, complaint = command(line, place)
        heard += said
        assert (code, complaint) == (0, ""), (said, complaint)
        assert "Traceback" not in said
    assert found(place) == undisturbed
    what = "said in a line, set aside" if " is damaged (" in heard else "nothing to set aside"
    injected(1, f"{what}, the same records in the end")


CASE = {
    "which": st.floats(0, 1, exclude_max=True),
    "how": st.sampled_from(["truncated", "flipped", "emptied", "deleted"]),
    "where": st.floats(0, 1, exclude_max=True),
    "bit": st.integers(0, 7),
}
QUICK = {
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    "phases": [Phase.explicit, Phase.generate],  # a case takes seconds: no shrinking
}


@settings(max_examples=8, **QUICK)
@given(**CASE)
def test_damaged_files_are_made_anew_and_never_read(whole, undisturbed, tmp_path, injected, **case):
    check_damaged(whole, undisturbed, tmp_path, injected, **case)


@pytest.mark.faults
@settings(max_examples=100, **QUICK)
@given(**CASE)
def test_damaged_files_are_made_anew_and_never_read_100_times(
    whole, undisturbed, tmp_path, injected, **case
):
    check_damaged(whole, undisturbed, tmp_path, injected, **case)
