"""A shell completes the names that the command line takes."""

import subprocess

import pytest

import run_bench
from bench.completion import SHELLS
from bench.suites import SUITES
from models import NETWORKS
from solvers import GRADIENTS

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_anode_bench
printf '%s\\n' "${COMPREPLY[@]}"
"""


def printed(shell, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_bench.main(["--print-completion", shell])
    assert exit_.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--sui"], {"--suite"}),
        (["--suite", ""], {*SUITES}),
        (["--network", "resnet"], {name for name in NETWORKS if name.startswith("resnet")}),
        (["--method", "rk4_"], {"rk4_38"}),
        (
            ["--gradient", "baseline,node"],
            {f"baseline,{name}" for name in GRADIENTS if name.startswith("node")},
        ),
        (["--suite", "memory", "--precision", "b"], {"bfloat16"}),
    ],
)
def test_bash_completes_options_and_names(tmp_path, capsys, words, offered):
    script = tmp_path / "anode-bench"
    script.write_text(printed("bash", capsys))
    bash = ["bash", "-c", COMPLETE, "bash", str(script), "anode-bench", *words]
    found = subprocess.run(bash, capture_output=True, text=True, check=True).stdout.split()
    assert {*found} == offered


def test_every_shell_has_a_script(capsys):
    assert all("anode-bench" in printed(shell, capsys) for shell in SHELLS)
