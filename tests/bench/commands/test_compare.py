"""Two folders of results are compared from the command line."""

import pandas as pd
import pytest

import run_bench
from bench import records
from tests.bench.builders import row, run


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """before and after: the second is 2 % worse in its training loss, of all three seeds."""
    monkeypatch.chdir(tmp_path)
    for place, loss in (("before", 1.0), ("after", 1.02)):
        for seed in range(3):
            epochs = [row(1, train_loss=loss)]
            records.write_run(tmp_path / place, run(f"seed{seed}", seed=seed, epochs=epochs))
    records.write_run(tmp_path / "after", run("lonely", seed=7, epochs=[row(1)]))
    return tmp_path


def compare(line):
    return run_bench.main(["--compare", *line.split()])


def files(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_changes_are_printed_in_80_columns_and_nothing_is_written(folders, capsys, monkeypatch):
    monkeypatch.setattr("bench.reporting.terminal.WIDTH_OF_A_LOG", 80)
    before = files(folders)
    assert compare("before after") == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert all(said in printed for said in ("Training loss", "Only in after", "lonely"))
    assert "Completed" not in printed  # what is the same is only counted
    assert files(folders) == before


def test_files_hold_every_seed_and_their_mean(folders, capsys):
    assert compare("before after --out there") == 0
    table = pd.read_csv(folders / "there" / "compare.csv")
    losses = table[table["quantity"] == "training loss"]
    assert losses["seed"].tolist() == ["0", "1", "2", "mean"]
    assert losses["difference"].tolist() == pytest.approx([0.02] * 4)
    text = (folders / "there" / "compare.md").read_text()
    assert "| resnet4, node | mean | 1 | 1.02 | +0.02 | " in text
    assert "| resnet4, node | 2 | 1 | 1.02 | +0.02 | – | worse |" in text
    assert "| training loss | 0 | 0 | 0 | 1 |" in text
    assert "wrote there/compare.md" in capsys.readouterr().out


@pytest.mark.parametrize(("bound", "code"), [("0.01", 1), ("0.03", 0)])
def test_exit_code_says_whether_a_change_for_the_worse_exceeds_the_bound(bound, code):
    assert compare(f"before after --fail-above {bound}") == code
    assert compare(f"after before --fail-above {bound}") == 0  # that is a change for the better
    assert compare(f"before before --fail-above {bound}") == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("before nowhere", "nowhere is no folder: name a folder of results"),
        ("before empty", "no recorded run or measurement under empty"),
        ("before after/suite/lonely", "have no experiment and no measurement in common"),
        ("before damaged", "is damaged"),
        ("before after --fail-above x", "'x' is no fraction"),
        ("before after --fail-above nan", "'nan' is no fraction"),
        ("before after --suite smoke --eager", "no use for --suite, --eager: leave it out"),
        ("before after --status", "not allowed with"),
        ("before", "expected 2 arguments"),
        ("before after --out before/suite/seed0/run.json", "cannot write"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(folders, capsys, line, said):
    (folders / "empty").mkdir()
    records.write_run(folders / "damaged", run("seed0", epochs=[row(1)]))
    (folders / "damaged" / "suite" / "seed0" / "run.json").write_text("{")
    before = files(folders)
    assert compare(line) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert said in message
    assert files(folders) == before
