import re
import sys

import pytest

import bench
import run_bench
from bench import cli
from bench.errors import UsageError


def parse(line):
    return cli.parse(line.split())


def test_default_is_the_smoke_suite_on_generated_images():
    request = parse("")
    assert request.suite.name == "smoke"
    assert request.generated
    assert len(request.experiments) == 12


def test_overrides_of_the_published_driver():
    request = parse(
        "--suite cifar10 --network sqnxt,resnet --method RK2,Euler --Nt 2,5 --lr 0.05 "
        "--num_epochs 3 --batch_size 64 --gradient anode --seeds 4,5 --train-images 100"
    )
    assert len(request.experiments) == 2 * 2 * 2 * 2
    first = request.experiments[0]
    assert (first.network, first.method, first.n_steps, first.seed) == ("squeezenext", "rk2", 2, 4)
    assert (first.lr, first.num_epochs, first.batch_size, first.train_images) == (0.05, 3, 64, 100)
    assert {e.network for e in request.experiments} == {"squeezenext", "resnet18"}
    assert not request.generated


def test_a_data_folder_replaces_generated_images():
    assert not parse("--suite smoke --data-dir somewhere").generated
    assert parse("--suite cifar10 --generated").generated


def test_runs_follow_one_another_on_this_machine_unless_more_jobs_are_asked_for():
    assert (parse("").executor, parse("").jobs) == ("local", 1)
    assert parse("--suite cifar10 --jobs 1000").jobs == 1000
    parse("--suite memory --jobs 1")


def test_values_given_twice_count_once():
    assert len(parse("--network resnet4,resnet4 --seeds 0,0").experiments) == 3


BAD = {
    "--suite smok": "unknown suite 'smok' (did you mean 'smoke'?): choose from smoke,",
    "--network resnet5": "unknown network 'resnet5' (did you mean 'resnet",
    "--network alexnet,": "empty entry",
    "--network ,": "empty list",
    "--method rk5": "unknown method 'rk5' (did you mean 'rk",
    "--gradient anodes": "unknown gradient method 'anodes' (did you mean 'anode'?): choose from "
    "baseline, backprop, anode, anode-auto",
    "--gradient no.such.module:X": "cannot load gradient method",
    "--gradient anode-revolve:m=3": "anode-revolve:m=3 needs 1 ≤ m ≤ Nt, and Nt is 2",
    "--gradient anode:m=3": "has no parameter 'm'",
    "--gradient anode-auto:_planner=3": "has no parameter '_planner': it has budget",
    "--Nt 0": "argument --Nt: '0' is no whole number from 1 to",
    "--Nt 2,x": "'x' is no whole number",
    "--Nt 1.5": "'1.5' is no whole number",
    "--lr -0.1": "argument --lr: '-0.1' is no positive number",
    "--lr nan": "no positive number",
    "--lr inf": "no positive number",
    "--seeds -1": "'-1' is no whole number from 0 to",
    "--seeds 99999999999999999999": "is no whole number from 0 to 2147483647",
    "--data-dir=": "'' is no name",
    "--data-dir pyproject.toml": "pyproject.toml is no folder",
    f"--data-dir {'x' * 300}": "File name too long (",
    "--gradient .x:y": "cannot load gradient method '.x:y'",
    "--test-images 1001": "1000 test images and 1001 are asked for: use --test-images with fewer",
    "--num_epochs 0": "--num_epochs",
    "--batch_size none": "--batch_size",
    "--batch_size 16,32": "the suite smoke has one --batch_size: give one value",
    "--suite growth --Nt 2": "the suite growth shows growth: give --Nt two values or more",
    "--suite growth --batch_size 64": "give --batch_size two values or more",
    "--suite growth --batch_size 64,5001": "--batch_size 5001: the data has 5000 images",
    "--suite growth --gradient baseline,anode": "a baseline has no Nt: leave it out",
    "--suite growth --gradient anode-revolve:m=2": "m=2 needs 1 ≤ m ≤ Nt, and Nt is 1",
    "--suite growth --seeds 1": "the suite growth has no use for --seeds",
    "--suite growth --check": "the suite growth has no reference",
    "--train-images 0": "--train-images",
    "--train-images 9999": "5000 training images and 9999 are asked for",
    "--method rk4": "node cannot use the method 'rk4'",
    "--nonsense": "unrecognized arguments: --nonsense",
    "--suite": "expected one argument",
    "--device gpu": "unknown device 'gpu'",
    "--data-dir no/such/folder": "no/such/folder does not exist",
    "--generated --data-dir .": "exclude each other",
    "--plots-only": "none of the runs is recorded under",
    "--jobs 0": "argument --jobs: '0' is no whole number from 1 to",
    "--jobs x": "argument --jobs: 'x' is no whole number",
    "--suite memory --jobs 2": "must run alone, or take turns in one process, to be comparable",
    "--suite cost --executor ray": "the suite cost measures on this machine: leave out --executor",
    "--executor slurm": "argument --executor: invalid choice: 'slurm'",
    "--executor local --executor local": "argument --executor: it is given twice: give it once",
    "--lr 1e39": "'1e39' is no positive number that a float32 can be: give one",
    "--gradient anode-auto:budget": "write anode-auto or anode-auto:budget=VALUE",
    "--gradient anode:fast": "'fast' is no parameter with its value: write anode",
    "--gradient anode-revolve:m=2:m=3": "the parameter 'm' twice",
    "--network models.resnet:CHAIN:blocks=0": "needs at least one block",
    "--suite os:sep": "suite os:sep cannot be used: it is not a suite",
    "--suite smoke:lr=1": "give what replaces its values as options",
    "--device cpu:1": "unknown device 'cpu:1'",
    "--suite smoke --check": "has no reference: use one of gradients, memory",
    "--suite reversibility --check": "the suite reversibility has no reference: use one of",
    "--suite reversibility --update-reference": "the suite reversibility has no reference",
    "--suite reversibility --reference file": "the suite reversibility has no reference",
    "--suite reversibility --plots-only": "measurements.csv: run the suite first",
    "--suite reversibility --method rk54": "rk45, rk45_relative",
    "--suite gradients --eager": "the suite gradients has no use for it: leave out --eager",
    "--suite cost --generated": "the suite cost has no use for it: leave out --generated",
    "--suite cost --tensorboard": "the suite cost trains nothing: leave out --tensorboard",
    "--suite gradients --lr 0.1": "has no use for --lr: leave it out",
    "--suite gradients --gradient anode-revolve:m=9": "needs 1 ≤ m ≤ Nt",
    "--suite gradients --gradient baseline": "unknown gradient method 'baseline'",
    "--suite memory --data-dir .": "uses generated images: leave out --data-dir",
    "--suite memory --update-reference --Nt 2": "writes the whole reference",
    "--suite memory --check --update-reference": "not allowed with argument --check",
    "--suite memory --check --plots-only": "not allowed with argument",
    "--suite memory --check --fresh": "--fresh and --check exclude each other",
    "--suite memory --reference x.csv": "needs --check or --update-reference",
    "--suite memory --batch_size 6000": "--batch_size 6000: the data has 5000 images",
    "--suite cost --check --batch_size 7": "anode, anode-auto, backprop, node with batch size 7",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(line, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_bench.main([*line.split(), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert BAD[line] in said
    assert not out.exists()


def test_unwritable_output_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_bench.main(["--out", str(tmp_path / "file" / "out")]) == 2
    assert re.search(r"error: cannot write to .*choose another --out", capsys.readouterr().err)


def test_request_is_refused_before_a_run_when_one_experiment_cannot_be(tmp_path):
    with pytest.raises(UsageError, match="rk4_38"):
        parse("--method rk2,rk4")


def test_help_names_the_suites_and_options(capsys):
    assert run_bench.main(["--help"]) == 0
    said = capsys.readouterr().out
    for word in ("smoke", "cifar10-quick", "--Nt", "--gradient", "--plots-only", "--data-dir"):
        assert word in said


def test_help_is_that_of_the_parser(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    said = capsys.readouterr().out
    assert run_bench.main(["--help"]) == 0
    how = "write it again: python -m bench.options > bench/help.txt"
    assert capsys.readouterr().out.split() == said.split(), how


def test_version(capsys):
    assert run_bench.main(["--version"]) == 0
    assert capsys.readouterr().out == f"anode-bench {bench.__version__}\n"


def test_ray_that_is_not_installed_is_one_line_that_says_what_to_install(
    tmp_path, capsys, monkeypatch
):
    for name in [name for name in sys.modules if name.startswith("bench.execution.ray_cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(bench.execution, "ray_cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run_bench.main(["--executor", "ray", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: --executor ray needs the package ray: pip install -e '.[ray]', on each machine\n"
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1:1", "no cluster answers there"), ("ray://here:10001", "on a machine of the")],
)
def test_cluster_that_cannot_be_reached_is_said_in_one_line(
    address, why, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert run_bench.main(["--executor", "ray", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: RAY_ADDRESS={address}: ")
    assert why in said
    assert said.count("\n") == 1
