"""Results of code that the user has edited since are not served: they are made anew."""

import importlib
import re
import sys

import pytest

import run_bench
from bench import records, sources
from tests.bench.builders import ONE_EPOCH_LINE, interrupted_after_an_epoch, run

USUAL = """
from solvers import odeint

class Mine:
    name = "mine"

    def solve(self, rhs, z0, method, n_steps):
        return odeint(rhs, z0, method=method, n_steps=n_steps, gradient="anode") * FACTOR

FACTOR = 1.0
MINE = Mine()
"""
BOTH = ("--gradient", "anode,mine:MINE")


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Call it with another factor: mine.py is written and will be imported again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(factor):
        (tmp_path / "mine.py").write_text(USUAL.replace("1.0", str(factor)))
        sys.modules.pop("mine", None)
        importlib.invalidate_caches()

    write(1.0)
    yield write
    sys.modules.pop("mine", None)


@pytest.fixture
def command(edit, tmp_path, capsys):
    """Call it with options: returns what the command printed, without line breaks."""

    def call(*more, line=ONE_EPOCH_LINE, code=0):
        assert run_bench.main([*line.split(), "--out", str(tmp_path / "results"), *more]) == code
        return " ".join(capsys.readouterr().out.split())

    return call


def test_run_of_edited_code_is_made_anew_and_the_old_record_archived(edit, command, tmp_path):
    command(*BOTH)
    assert "all 2 runs are recorded already" in command(*BOTH)
    suite, loss = tmp_path / "results" / "smoke", "final_train_loss"
    before = records.load_runs(suite).set_index("gradient")[loss]
    (file,) = suite.glob("*mine*/run.json")
    environment = records.read_run(file.parent).environment
    assert environment["sources"] == {"mine:MINE": records.checksums.sha256(USUAL.encode())}
    assert re.fullmatch(r"\d+\.\d+\.\d+", environment["version"])
    edit(0.5)
    assert "1 done" in (said := command("--status", *BOTH))
    assert "mine:MINE changed since it was recorded" in said
    said = command("--reproduce", file.parent.name, line="", code=1)
    assert "not as it was: source of mine:MINE: " in said
    said = command(*BOTH)
    assert "1 run, about" in said
    (place,) = tmp_path.glob("results/smoke.aside-[0-9]*")
    old = f"made anew, and the old is in {place} "
    assert f"1 run and 4 of 8 measurements: mine:MINE has changed since: {old}" in said
    assert said.count("changed since") == 1
    now = records.load_runs(suite).set_index("gradient")[loss]
    assert now["anode"] == before["anode"]
    assert now["mine:MINE"] != before["mine:MINE"]
    (kept,) = place.glob("*/run.json")
    assert records.read_run(kept.parent).summary[loss] == before["mine:MINE"]
    assert "all 2 runs are recorded already" in command(*BOTH)


def test_measurements_of_edited_code_are_made_anew(edit, command, tmp_path):
    line = "--suite memory --network resnet4 --method euler --batch_size 2 --Nt"
    command(*BOTH, line=f"{line} 1")
    assert "2 of 2 cases are recorded already" in command(*BOTH, line=f"{line} 1")
    edit(0.5)
    assert "1 of 2 cases measured" in command("--status", *BOTH, line=f"{line} 1")
    # Another case of the same code, too: no table has rows of both.
    said = command("--gradient", "mine:MINE", line=f"{line} 2")
    assert "1 of 2 measurements: mine:MINE has changed since: made anew, and the old is in" in said
    said = command(*BOTH, line=f"{line} 1")
    assert "1 of 2 cases are recorded already" in said
    assert "changed" not in said
    rows = records.read_rows(tmp_path / "results/memory/measurements.csv", records.MemoryRow)
    found = sorted((row.gradient, row.n_steps) for row in rows)
    assert found == [("anode", 1), ("mine:MINE", 1), ("mine:MINE", 2)]
    where = records.environments(tmp_path / "results/memory/measurements.csv")
    stated = {source for e in where for source in e["sources"].values()}
    assert stated == set(sources.of(*rows).values())  # the old source belongs to no row


def test_run_does_not_go_on_from_the_checkpoint_of_other_code(edit, command, tmp_path):
    line = ONE_EPOCH_LINE.replace("--num_epochs 1", "--num_epochs 2 --gradient mine:MINE")
    with interrupted_after_an_epoch():
        command(line=line, code=130)
        assert "goes on in epoch 2" in command(line=line, code=130)
    edit(0.5)
    said = command(line=line)
    assert "its code is not this one's" in said
    assert "starts over" in said
    (found,) = tmp_path.glob("results/*/*/run.json")
    assert records.read_run(found.parent).environment["resumed_at"] == []


def test_record_that_does_not_say_its_source_is_not_called_changed():
    old, first, later = run().environment, *({"sources": {"mine:MINE": n}} for n in "10")
    now = later["sources"]
    assert sources.changed([old], now) == []
    assert sources.changed([first, old], now) == ["mine:MINE"]
    assert sources.changed([first, later], now) == []
