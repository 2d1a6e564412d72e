"""Results of code that the user has edited since are not served: they are made anew."""

import importlib
import re
import sys

import pytest

import run_bench
from bench import records, sources
from bench.execution.checkpointing import Checkpointer
from tests.bench.builders import run

USUAL = """
from solvers import odeint

class Mine:
    name = "mine"

    def solve(self, rhs, z0, method, n_steps):
        return odeint(rhs, z0, method=method, n_steps=n_steps, gradient="anode") * FACTOR

FACTOR = 1.0
MINE = Mine()
"""
SMALL = "--network resnet4 --num_epochs 1 --train-images 20 --test-images 10 --batch_size 10"


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Writes mine.py; what is called after it is as in a new process, which imports it."""
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
def command(tmp_path, capsys):
    """Runs a command line and returns what it printed, without the line breaks of the console."""

    def call(*more, small=SMALL, code=0):
        line = [*small.split(), "--out", str(tmp_path / "results"), *more]
        assert run_bench.main(line) == code
        return " ".join(capsys.readouterr().out.split())

    return call


def test_run_of_edited_code_is_made_anew_and_the_old_record_set_aside(edit, command, tmp_path):
    line = ("--gradient", "anode,mine:MINE")
    command(*line)
    assert "all 2 runs are recorded already" in command(*line)
    before = records.load_runs(tmp_path / "results" / "smoke").set_index("gradient")
    edit(0.5)
    assert "1 done" in (said := command("--status", *line))
    assert "mine:MINE changed since it was recorded" in said
    said = command(*line)
    assert "1 run, about" in said
    assert re.search(
        r"mine_MINE\S+: mine:MINE has changed since: made anew, and the old is in", said
    )
    assert "4 of 8 measurements: mine:MINE has changed since" in said
    now = records.load_runs(tmp_path / "results" / "smoke").set_index("gradient")
    loss = "final_train_loss"
    assert now[loss]["anode"] == before[loss]["anode"]
    assert now[loss]["mine:MINE"] != before[loss]["mine:MINE"]
    kept = [records.read_run(f.parent) for f in tmp_path.glob("results/*aside*/*/run.json")]
    assert [old.summary[loss] for old in kept] == [before[loss]["mine:MINE"]]
    assert "all 2 runs are recorded already" in command(*line)


def test_record_says_the_source_and_the_version(edit, command, tmp_path):
    command("--gradient", "mine:MINE")
    (file,) = tmp_path.glob("results/smoke/*/run.json")
    environment = records.read_run(file.parent).environment
    assert environment["sources"] == {"mine:MINE": records.checksums.sha256(USUAL.encode())}
    assert re.fullmatch(r"\d+\.\d+\.\d+", environment["version"])


def test_reproduction_says_that_the_code_differs(edit, command, tmp_path):
    command("--gradient", "mine:MINE")
    (file,) = tmp_path.glob("results/smoke/*/run.json")
    edit(0.5)
    said = command("--reproduce", file.parent.name, small="", code=1)
    assert "not as it was: source of mine:MINE: " in said


def test_measurements_of_edited_code_are_made_anew(edit, command, tmp_path):
    small = "--suite memory --network resnet4 --method euler --Nt 1 --batch_size 2"
    line = ("--gradient", "anode,mine:MINE")
    command(*line, small=small)
    assert "2 of 2 cases are recorded already" in command(*line, small=small)
    edit(0.5)
    assert "1 of 2 cases measured" in command("--status", *line, small=small)
    # Another case of the same code, too: no table has rows of both.
    said = command("--gradient", "mine:MINE", "--Nt", "2", small=small.replace("--Nt 1", ""))
    assert "1 of 2 measurements: mine:MINE has changed since: made anew, and the old is in" in said
    said = command(*line, small=small)
    assert "1 of 2 cases are recorded already" in said
    assert "changed" not in said
    rows = records.read_rows(tmp_path / "results/memory/measurements.csv", records.MemoryRow)
    assert sorted((row.gradient, row.n_steps) for row in rows) == [
        ("anode", 1),
        ("mine:MINE", 1),
        ("mine:MINE", 2),
    ]


def test_run_does_not_go_on_from_the_checkpoint_of_other_code(edit, command, tmp_path, monkeypatch):
    line = ("--gradient", "mine:MINE", "--num_epochs", "2")
    small = SMALL.replace("--num_epochs 1", "")

    original = Checkpointer.write

    def stop(self, trainer):
        original(self, trainer)
        if trainer.state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "write", stop)
        command(*line, small=small, code=130)
        assert "goes on in epoch 2" in command(*line, small=small, code=130)
    edit(0.5)
    said = command(*line, small=small)
    assert "its code is not this one's" in said
    assert "starts over" in said
    (found,) = [records.read_run(f.parent) for f in tmp_path.glob("results/*/*/run.json")]
    assert found.environment["resumed_at"] == []


def test_record_that_does_not_say_its_source_is_not_called_changed():
    old = run().environment
    assert sources.changed([old], {"mine:MINE": "0"}) == []
    assert sources.changed([{"sources": {"mine:MINE": "1"}}, old], {"mine:MINE": "0"}) == [
        "mine:MINE"
    ]
    later = {"sources": {"mine:MINE": "0"}}
    assert sources.changed([{"sources": {"mine:MINE": "1"}}, later], {"mine:MINE": "0"}) == []
