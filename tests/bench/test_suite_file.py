"""A suite of one's own in a TOML file is what the same options would make of its base."""

from dataclasses import replace

import pytest

import run_bench
from bench import cli, suite_file
from bench.errors import UsageError


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda content, name="mine.toml": (tmp_path / name).write_text(content)


def parse(line):
    return cli.parse(line.split())


WHOLE = """
base = "cifar10-short"
network = ["resnet4", "sqnxt"]
method = "RK2"
Nt = [1, 5, 1]
gradient = ["anode", "node-rk45:rtol=0.1"]
seeds = [3]
lr = 1
num_epochs = 2
batch-size = 64
train_images = 100
test-images = 50
precision = "bfloat16"
"""
SAME = (
    "--suite cifar10-short --network resnet4,sqnxt --method RK2 --Nt 1,5 --gradient "
    "anode,node-rk45:rtol=0.1 --seeds 3 --lr 1 --num_epochs 2 --batch_size 64 --train-images 100 "
    "--test-images 50 --precision bfloat16"
)


def test_file_gives_the_runs_of_the_same_options_under_its_own_name(write):
    write(WHOLE)
    own, same = parse("--suite mine.toml"), parse(SAME)
    assert own.experiments == same.experiments
    assert own.suite.name == "mine"
    assert replace(own.suite, name="", description="") == replace(
        same.suite, name="", description=""
    )


def test_file_can_set_every_option_that_replaces_a_value(write):
    write(WHOLE)
    assert set(suite_file.read(suite_file.Path("mine.toml")).values) == set(suite_file.KEYS)


def test_options_replace_what_the_file_says(write):
    write(WHOLE)
    request = parse("--suite mine.toml --network alexnet --seeds 0,1")
    assert {e.network for e in request.experiments} == {"alexnet"}
    assert {e.seed for e in request.experiments} == {0, 1}
    assert {e.lr for e in request.experiments} == {1}


def test_study_can_be_the_base_and_is_checked_with_the_reference_of_its_base(write):
    write('base = "memory"\nnetwork = "resnet4"\nNt = 2\ngradient = "anode"')
    request = parse("--suite mine.toml --check")
    assert request.suite.name == "mine"
    assert request.reference == parse("--suite memory --check").reference
    with pytest.raises(UsageError, match="writes the whole reference"):
        parse("--suite mine.toml --update-reference")


BAD = {
    "": "names no base suite: write base =",
    "base = 3": "names no base suite",
    "base =": "is not valid TOML",
    'base = "smok"': "unknown suite 'smok' (did you mean 'smoke'?)",
    'base = "mine.toml"': "unknown suite 'mine.toml'",
    'base = "smoke"\nnetwrok = "resnet4"': "unknown key 'netwrok' (did you mean 'network'?)",
    'base = "smoke"\njobs = 2': "unknown key 'jobs'",
    'base = "smoke"\n[network]': "network has the wrong type",
    'base = "smoke"\nnetwork = 4': "network has the wrong type",
    'base = "smoke"\nnetwork = ["resnet4", 4]': "network has the wrong type",
    'base = "smoke"\nnetwork = [["resnet4"]]': "network has the wrong type",
    'base = "smoke"\nnetwork = "resnet4,alexnet"': "network has the wrong type",
    'base = "smoke"\nnetwork = []': "empty list",
    'base = "smoke"\nnetwork = "resnet5"': "unknown network 'resnet5'",
    'base = "smoke"\nNt = "2"': "Nt has the wrong type",
    'base = "smoke"\nNt = true': "Nt has the wrong type",
    'base = "smoke"\nNt = [2.5]': "'2.5' is no whole number from 1",
    'base = "smoke"\nNt = 0': "'0' is no whole number from 1",
    'base = "smoke"\nlr = [0.1]': "lr has the wrong type",
    'base = "smoke"\nlr = inf': "'inf' is no positive number",
    'base = "smoke"\nlr = 1979-05-27': "lr has the wrong type",
    'base = "smoke"\nprecision = "half"': "unknown precision 'half'",
    'base = "cost"\nprecision = "half"': "unknown precision 'half'",
    'base = "smoke"\nbatch_size = [2, 3]': "has one --batch_size",
    'base = "smoke"\ntrain-images = 1\ntrain_images = 1': "train_images is given twice",
    'base = "memory"\nlr = 0.1': "the suite memory has no use for --lr",
}


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_suite_is_refused_in_one_line(write, content, capsys, tmp_path):
    write(content)
    assert run_bench.main(["--suite", "mine.toml"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert BAD[content] in message
    assert [file.name for file in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smoke.toml", "there is a suite smoke already"),
        ("Memory.toml", "there is a suite memory already"),
        (".toml", "its name is that of a folder"),
        ("my suite.toml", "its name is that of a folder"),
        ("..toml", "its name is that of a folder"),
    ],
)
def test_name_of_the_file_must_be_free_and_that_of_a_folder(write, capsys, name, said):
    write('base = "smoke"', name)
    assert run_bench.main(["--suite", name]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nowhere.toml", "folder.toml", "latin.toml"])
def test_file_that_cannot_be_read_is_refused(write, capsys, tmp_path, name):
    write("")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'base = "\xe9"')
    assert run_bench.main(["--suite", name]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert name in message
