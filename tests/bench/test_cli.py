"""Arguments become a request; what cannot be one is refused in one line, and nothing is written."""

import re
import sys

import pytest

import bench
import plots
import run_bench
from bench import cli


def parse(line):
    return cli.parse(line.split())


def test_default_is_the_smoke_suite_on_generated_images_one_run_after_another():
    request = parse("")
    assert (request.suite.name, request.generated, len(request.experiments)) == ("smoke", True, 12)
    assert (request.executor, request.jobs) == ("local", 1)
    assert parse("--suite cifar10 --jobs 1000").jobs == 1000
    parse("--suite memory --jobs 1")
    assert not parse("--suite smoke --data-dir somewhere").generated
    assert parse("--suite cifar10 --generated").generated


def test_overrides_of_the_published_driver():
    request = parse(
        "--suite cifar10 --network sqnxt,resnet --method RK2,Euler --Nt 2,5 --lr 0.05 "
        "--num_epochs 3 --batch_size 64 --gradient anode --seeds 4,5,4 --train-images 100"
    )
    assert len(request.experiments) == 2 * 2 * 2 * 2
    first = request.experiments[0]
    assert (first.network, first.method, first.n_steps, first.seed) == ("squeezenext", "rk2", 2, 4)
    assert (first.lr, first.num_epochs, first.batch_size, first.train_images) == (0.05, 3, 64, 100)
    assert {e.network for e in request.experiments} == {"squeezenext", "resnet18"}
    assert not request.generated


BAD = {
    "--suite smok": "unknown suite 'smok' (did you mean 'smoke'?): choose from smoke,",
    "--suite os:sep": "suite os:sep cannot be used: it is not a suite",
    "--suite smoke:lr=1": "give what replaces its values as options",
    "--suite": "expected one argument",
    "--nonsense": "unrecognized arguments: --nonsense",
    "--network resnet5": "unknown network 'resnet5' (did you mean 'resnet",
    "--network alexnet,": "empty entry",
    "--network models.resnet:CHAIN:blocks=0": "needs at least one block",
    "--gradient anodes": "unknown gradient method 'anodes' (did you mean 'anode'?): choose from "
    "baseline, backprop, anode, anode-auto",
    "--gradient no.such.module:X": "cannot load gradient method",
    "--gradient anode-auto:budget": "write anode-auto or anode-auto:budget=VALUE",
    "--gradient anode:fast": "'fast' is no parameter with its value: write anode",
    "--Nt 0": "argument --Nt: '0' is no whole number from 1 to",
    "--lr nan": "no positive number",
    "--lr 1e39": "'1e39' is no positive number that a float32 can be: give one",
    "--seeds 99999999999999999999": "is no whole number from 0 to 2147483647",
    "--batch_size 16,32": "the suite smoke has one --batch_size: give one value",
    "--test-images 1001": "1000 test images and 1001 are asked for: use --test-images with fewer",
    "--device gpu": "unknown device 'gpu'",
    "--data-dir=": "'' is no name",
    "--data-dir pyproject.toml": "pyproject.toml is no folder",
    "--generated --data-dir .": "exclude each other",
    "--plots-only": "none of the runs is recorded under",
    "--fresh --list": "--fresh and --list exclude each other",
    "--fresh --plots-only": "--fresh and --plots-only exclude each other",
    "--dry-run --status": "not allowed with",
    "--reproduce a --Nt 3 --lr 1 --jobs 2": "on this machine: leave out --Nt, --lr, --jobs",
    "--estimate": "--estimate needs --list: give both",
    "--fail-above 0.1": "--fail-above needs --compare A B",
    "--status --format pdf": "--status draws nothing: leave out --format",
    "--device cpu --precision tf32": "tf32 needs a CUDA device: use float32 or bfloat16",
    "--jobs x": "argument --jobs: 'x' is no whole number",
    "--executor slurm": "argument --executor: invalid choice: 'slurm'",
    "--executor local --executor local": "argument --executor: it is given twice: give it once",
    "--suite smoke --check": "has no reference: use one of gradients, memory",
    "--suite growth --Nt 2": "the suite growth shows growth: give --Nt two values or more",
    "--suite growth --batch_size 64": "give --batch_size two values or more",
    "--suite growth --batch_size 64,5001": "--batch_size 5001: the data has 5000 images",
    "--suite growth --gradient baseline,anode": "a baseline has no Nt: leave it out",
    "--suite growth --seeds 1": "the suite growth has no use for --seeds",
    "--suite reversibility --check": "the suite reversibility has no reference: use one of",
    "--suite reversibility --plots-only": "measurements.csv: run the suite first",
    "--suite reversibility --method rk54": "rk45, rk45_relative",
    "--suite gradients --eager": "the suite gradients has no use for it: leave out --eager",
    "--suite gradients --lr 0.1": "has no use for --lr: leave it out",
    "--suite gradients --gradient baseline": "unknown gradient method 'baseline'",
    "--suite memory --data-dir .": "uses generated images: leave out --data-dir",
    "--suite memory --jobs 2": "must run alone, or take turns in one process, to be comparable",
    "--suite memory --check --update-reference": "not allowed with argument --check",
    "--suite memory --check --fresh": "--fresh and --check exclude each other",
    "--suite memory --reference x.csv": "needs --check or --update-reference",
    "--suite memory --batch_size 6000": "--batch_size 6000: the data has 5000 images",
    "--suite cost --executor ray": "the suite cost measures on this machine: leave out --executor",
    "--suite cost --generated": "the suite cost has no use for it: leave out --generated",
    "--suite cost --tensorboard": "the suite cost trains nothing: leave out --tensorboard",
    "--suite cost --check --batch_size 7": "anode, anode-auto, backprop, node with batch size 7",
    "--suite cost --network resnet4 --gradient bench.peers.nobody:HOME": "cannot load gradient",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(line, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_bench.main([*line.split(), "--out", str(out)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    assert BAD[line] in said
    assert not out.exists()


def test_unwritable_output_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_bench.main(["--out", str(tmp_path / "file" / "out")]) == 2
    assert re.search(r"error: cannot write to .*choose another --out", capsys.readouterr().err)


def test_path_in_square_brackets_is_printed_as_it_is(tmp_path, monkeypatch, capsys):
    out = tmp_path / "[bold]" / "[" / "red]"
    monkeypatch.setattr(plots, "draw", lambda *args: [out / "a.png"])
    assert run_bench.main(["--plots-only", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out / 'a.png'}\n"


def test_help_is_that_of_the_parser_and_version_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    said = capsys.readouterr().out
    assert run_bench.main(["--help"]) == 0
    how = "write it again: python -m bench.options > bench/help.txt"
    assert capsys.readouterr().out.split() == said.split(), how
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
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        "error: --executor ray needs the package ray: pip install -e '.[ray]', on each machine"
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1:1", "no cluster answers there"), ("ray://here:10001", "on a machine of the")],
)
def test_cluster_that_cannot_be_reached_is_one_line(address, why, tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert run_bench.main(["--executor", "ray", "--out", str(tmp_path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: RAY_ADDRESS={address}: ")
    assert why in said
