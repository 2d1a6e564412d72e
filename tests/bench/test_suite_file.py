"""A suite of the user's own in a TOML file is what the same options would make of its base."""

from dataclasses import replace

import pytest

import run_bench
from bench import cli, suite_file


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
    assert (own.experiments, own.suite.name) == (same.experiments, "mine")
    unnamed = {"name": "", "description": ""}
    assert replace(own.suite, **unnamed) == replace(same.suite, **unnamed)
    assert set(suite_file.read(suite_file.Path("mine.toml")).values) == set(suite_file.KEYS)
    changed = parse("--suite mine.toml --network alexnet --seeds 0,1").experiments
    assert {(e.network, e.seed, e.lr) for e in changed} == {("alexnet", s, 1) for s in (0, 1)}


def test_study_can_be_the_base_and_is_checked_with_the_reference_of_its_base(write):
    write('base = "memory"\nnetwork = "resnet4"\nNt = 2\ngradient = "anode"')
    request = parse("--suite mine.toml --check")
    assert request.suite.name == "mine"
    assert request.reference == parse("--suite memory --check").reference


BAD = {
    "": "names no base suite: write base =",
    "base = 3": "names no base suite",
    "base =": "is not valid TOML",
    'base = "smok"': "unknown suite 'smok' (did you mean 'smoke'?)",
    'base = "mine.toml"': "unknown suite 'mine.toml'",
    'base = "smoke"\nnetwrok = "resnet4"': "unknown key 'netwrok' (did you mean 'network'?)",
    'base = "smoke"\njobs = 2': "unknown key 'jobs'",
    'base = "smoke"\nnetwork = ["resnet4", 4]': "network has the wrong type",
    'base = "smoke"\nnetwork = "resnet4,alexnet"': "network has the wrong type",
    'base = "smoke"\nNt = true': "Nt has the wrong type",
    'base = "smoke"\nNt = [2.5]': "'2.5' is no whole number from 1",
    'base = "smoke"\nnetwork = "resnet5"': "unknown network 'resnet5'",
    'base = "memory"\nlr = 0.1': "the suite memory has no use for --lr",
    'base = "smoke"\nlr = [0.1]': "lr has the wrong type",
    'base = "smoke"\nprecision = "half"': "unknown precision 'half'",
    'base = "smoke"\ntrain-images = 1\ntrain_images = 1': "train_images is given twice",
}
FILES = {
    "smoke.toml": "there is a suite smoke already",
    "Memory.toml": "there is a suite memory already",
    ".toml": "its name is that of a folder",
    "my suite.toml": "its name is that of a folder",
    "nowhere.toml": "nowhere.toml",
    "latin.toml": "latin.toml",
}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        *(("mine.toml", content, said) for content, said in BAD.items()),
        *((name, 'base = "smoke"', said) for name, said in FILES.items()),
    ],
)
def test_bad_file_is_refused_in_one_line(write, capsys, tmp_path, name, content, said):
    if name == "latin.toml":
        (tmp_path / name).write_bytes(b'base = "\xe9"')
    elif name != "nowhere.toml":
        write(content, name)
    before = list(tmp_path.iterdir())
    assert run_bench.main(["--suite", name]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert said in message
    assert name in message
    assert list(tmp_path.iterdir()) == before
