"""Command lines that ask for what cannot be: each is refused in one line, and nothing is done."""

import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plots
import run_bench
from bench import options
from bench.commands import measure
from bench.data import official
from bench.execution import executors
from bench.suites import SUITES, Suite

EXAMPLES = 200
TRAINING = [name for name, suite in SUITES.items() if isinstance(suite, Suite)]
MEASURING = [name for name in SUITES if name not in TRAINING]

FOREIGN = {
    "raises": "raise RuntimeError('two\\nlines')",
    "exits": "import sys; sys.exit(0)",
    "exits_saying_why": "raise SystemExit('no\\x1b[31m licence')",
    "is_no_python": "def",
    "wants_what_is_not_there": "import no_such_package",
    "refuses_attributes": "def __getattr__(name): raise KeyError(name)",
    "is_whole": "OBJECT = 1",
}
"""Modules of somebody's own."""

# What a shell, a script or a slip of the hand may make of a value. A NUL comes from no shell.
odd = st.one_of(
    st.sampled_from(
        ["", " ", ",", "a,,b", "\0", "a\nb", "\x1b[2Jx", "\u202e", "١x", "\ud800", "é"]
    ),
    st.sampled_from(["nan", "-inf", "1e999", "-1", "0", "1.5", "0x10", "9" * 5000, "None", "null"]),
    st.text(min_size=1, max_size=20).map(lambda text: f"?{text}"),
)
no_count = st.one_of(odd, st.sampled_from(["2147483648", "--", "1e3", "1 2", "+-1"]))
no_rate = odd.filter(lambda text: text != "1.5")
no_name = st.one_of(
    odd,
    st.sampled_from(sorted(FOREIGN)).map(lambda module: f"foreign_{module}:OBJECT"),
    st.sampled_from(sorted(FOREIGN)).map(lambda module: f"foreign_{module}:OBJECT:m=1"),
    st.sampled_from(
        ["os:sep", "os.path:sep", "x:", ":x", ":", "..:x", ".x:y", "os:no_such", "a=b"]
    ),
)
no_gradient = st.one_of(
    no_name,
    st.sampled_from(
        [
            *(
                "anode-auto:budget",
                "anode-auto:budget=",
                "anode-auto:budget=-1",
                "anode:",
                "anode:x",
            ),
            *("anode-auto:budget=1e9", "anode-auto:budget=1:budget=2", "anode-revolve:m=0"),
            *("node-rk45:rtol=nan", "node-rk45:atol=-1", "reversible:coupling=2", "node:=1"),
        ]
    ),
)
no_folder = st.just("")

MALFORMED = {
    "--network": no_name,
    "--method": no_name,
    "--gradient": no_gradient,
    "--suite": no_name,
    "--Nt": no_count,
    "--seeds": no_count.filter(lambda text: text != "0"),
    "--num_epochs": no_count,
    "--num-epochs": no_count,
    "--batch_size": no_count,
    "--batch-size": no_count,
    "--train-images": no_count,
    "--test-images": no_count,
    "--jobs": no_count,
    "--lr": no_rate,
    "--precision": odd,
    "--executor": odd,
    "--format": odd,
    "--device": st.one_of(odd, st.sampled_from(["cuda:99", "cpu:0", "meta", "mps", "cuda:-1"])),
    "--data-dir": st.one_of(no_folder, st.sampled_from(["a-file", "nowhere", "empty", "spoiled"])),
    "--out": st.one_of(no_folder, st.sampled_from(["a-file", "a-file/below", "/dev/null"])),
    "--reference": no_folder,
    "--fail-above": no_rate,
    "--reproduce": st.one_of(no_folder, odd, st.sampled_from(["nowhere", "a-file", "..", "/"])),
}
"""Option → values that it cannot have."""

WELL_FORMED = {
    "--network": "resnet4",
    "--Nt": "2",
    "--lr": "0.1",
    "--num_epochs": "1",
    "--train-images": "20",
    "--seeds": "3",
    "--gradient": "anode,node",
}


@st.composite
def with_a_malformed_value(draw):
    """An option with a value that it cannot have, among others that are as they must be."""
    option = draw(st.sampled_from(sorted(MALFORMED)))
    value = draw(MALFORMED[option])
    suite = draw(st.sampled_from(["smoke", "cifar10"])) if option != "--suite" else None
    others = [name for name in WELL_FORMED if name.replace("-", "_") != option.replace("-", "_")]
    chosen = draw(st.lists(st.sampled_from(others), max_size=3, unique=True))
    options = [["--suite", suite] if suite else [], [f"{option}={value}"]]
    options += [[name, WELL_FORMED[name]] for name in chosen]
    return [word for words in draw(st.permutations(options)) for word in words]


@st.composite
def without_a_value(draw):
    option = draw(st.sampled_from(sorted(MALFORMED)))
    return [option] if draw(st.booleans()) else [option, "--fresh"]


@st.composite
def with_an_option_twice(draw):
    option = draw(st.sampled_from(sorted(WELL_FORMED)))
    value = WELL_FORMED[option]
    spelling = {"--num_epochs": "--num-epochs"}.get(option, option)
    return [option, value, "--jobs", "1", f"{spelling}={value}"]


def combined(suites, options):
    return st.tuples(st.sampled_from(suites), st.sampled_from(options)).map(
        lambda both: ["--suite", both[0], *both[1].split()]
    )


MAKES_NO_SENSE = st.one_of(
    combined(TRAINING, ["--check", "--update-reference", "--reference x.csv", "--list --fresh"]),
    combined(TRAINING, ["--plots-only --list", "--plots-only --fresh", "--generated --data-dir ."]),
    combined(MEASURING, ["--eager", "--generated", "--jobs 2", "--lr 0.1", "--num_epochs 2"]),
    combined(MEASURING, ["--train-images 20", "--test-images 20", "--check --fresh", "positional"]),
    combined(["gradients", "memory", "cost"], ["--data-dir .", "--reference x.csv"]),
    combined(["growth", "reversibility"], ["--check", "--update-reference", "--reference x.csv"]),
    combined(["gradients", "memory", "cost"], ["--update-reference --Nt 2", "--check --list"]),
    combined(
        ["cost"], ["--check --batch_size 7", "--check --precision bfloat16", "--check --Nt 3"]
    ),
    combined(["memory"], ["--check --gradient bench.peers.original:ORIGINAL", "--check --Nt 7"]),
    combined(["growth"], ["--Nt 2", "--batch_size 2", "--gradient baseline,anode"]),
    combined(["smoke"], ["--batch_size 2,3", "--method rk4", "--train-images 5001", "--no-such"]),
    combined(["smoke"], ["--compare empty", "--compare empty nowhere", "--fail-above 0.1"]),
    combined(["smoke"], ["--out --fresh", "--help=1", "--fresh=1", "-x", "-- x", "@file"]),
)

command_lines = st.one_of(
    with_a_malformed_value(),
    with_a_malformed_value(),
    without_a_value(),
    with_an_option_twice(),
    MAKES_NO_SENSE,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to work in, with what command lines name, and somebody's own modules."""
    folder = tmp_path_factory.mktemp("malformed")
    (folder / "a-file").write_text("")
    (folder / "empty").mkdir()
    (folder / "spoiled" / "train" / "a\nclass\x1b[31m").mkdir(parents=True)
    for name, content in FOREIGN.items():
        (folder / f"foreign_{name}.py").write_text(content)
    return folder


def everything(folder):
    return sorted(str(file) for file in folder.rglob("*") if "__pycache__" not in file.parts)


@pytest.mark.fault("malformed")
@given(words=command_lines)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_command_line_is_one_line_and_exit_code_2(
    words, place, monkeypatch, capsys, injected
):
    def measured(*args, **kwargs):
        raise AssertionError(f"{words} was taken for a command line")

    with monkeypatch.context() as patched:
        patched.chdir(place)
        patched.setattr(sys, "path", [*sys.path])
        patched.setattr(executors, "measure_step_costs", measured)
        patched.setattr(measure.Session, "measure", measured)
        patched.setattr(official, "_download", measured)
        before = everything(place)
        out = [] if any(word.startswith("--out") for word in words) else ["--out", "results"]
        assert run_bench.main([*out, *words]) == 2
        assert everything(place) == before
    said = capsys.readouterr()
    assert re.fullmatch(r"error: [^\n]+\n", said.err)
    assert all(character.isprintable() for character in said.err[:-1])
    assert said.out == ""
    injected(1, "exit code 2 and one line, nothing written")


def test_every_option_that_takes_a_value_is_given_malformed_ones():
    takes_one = [action for action in options.parser()._actions if action.nargs is None]
    assert {name for action in takes_one for name in action.option_strings} == {*MALFORMED}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--gradient foreign_exits:OBJECT", "it exits while it is imported (0)"),
        ("--data-dir spoiled", r"a\nclass\x1b[31m unknown"),
    ],
)
def test_foreign_names_are_quoted_in_one_printable_line(words, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run_bench.main(words.split()) == 2
    assert said in capsys.readouterr().err
    assert not Path("results").exists()


def test_foreign_suite_is_one_of_ours(place, monkeypatch, capsys):
    (place / "own_suite.py").write_text(
        "from bench.suites import Suite\n"
        "OWN = Suite('own', 'own', train_images=6000, generated=True)"
    )
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run_bench.main(["--suite", "own_suite:OWN"]) == 2
    assert "5000 training images and 6000 are asked for" in capsys.readouterr().err


def test_path_in_square_brackets_is_printed_as_it_is(tmp_path, monkeypatch, capsys):
    out = tmp_path / "[bold]" / "[" / "red]"
    monkeypatch.setattr(plots, "draw", lambda *args: [out / "a.png"])
    line = ["--plots-only", "--out", str(out)]
    assert run_bench.main(line) == 0
    assert capsys.readouterr().out == f"wrote {out / 'a.png'}\n"
