"""Malformed values of options: each is refused in one printable line, and nothing is done."""

import re
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_bench
from bench import options
from bench.commands import measure
from bench.data import official
from bench.execution import executors

FOREIGN = {
    "raises": "raise RuntimeError('two\\nlines')",
    "exits": "import sys; sys.exit(0)",
    "is_no_python": "def",
    "wants_what_is_not_there": "import no_such_package",
    "is_whole": "OBJECT = 1",
}
"""The user's own modules."""

OWN = {f"foreign_{module}:OBJECT{more}" for module in FOREIGN for more in ("", ":m=1")}

# What a shell, a script or a slip of the hand may make of a value.
odd = st.one_of(
    st.sampled_from(["", " ", ",", "a,,b", "a\nb", "\x1b[2Jx", "\u202e", "١x", "\ud800", "é"]),
    st.sampled_from(["nan", "-inf", "1e999", "-1", "0", "1.5", "0x10", "9" * 5000, "None"]),
    st.text(min_size=1, max_size=20).map(lambda text: f"?{text}"),
)
no_count = odd | st.sampled_from(["2147483648", "--", "1e3", "1 2", "+-1"])
no_rate = odd.filter(lambda text: text != "1.5")
no_name = odd | st.sampled_from(["os:sep", "x:", ":x", ":", "..:x", "os:no_such", *sorted(OWN)])
no_gradient = no_name | st.sampled_from(
    [
        *("anode-auto:budget=", "anode-auto:budget=-1", "anode:", "anode:x", "node:=1"),
        *("anode-auto:budget=1e9", "anode-revolve:m=0", "node-rk45:rtol=nan"),
        *("node-rk45:atol=-1", "reversible:coupling=2"),
    ]
)
MALFORMED = {
    **dict.fromkeys(("--network", "--method", "--suite"), no_name),
    "--gradient": no_gradient,
    **dict.fromkeys(("--Nt", "--num_epochs", "--num-epochs", "--batch_size"), no_count),
    **dict.fromkeys(("--batch-size", "--train-images", "--test-images", "--jobs"), no_count),
    "--seeds": no_count.filter(lambda text: text != "0"),
    **dict.fromkeys(("--lr", "--fail-above"), no_rate),
    **dict.fromkeys(("--precision", "--executor", "--format", "--print-completion"), odd),
    "--device": odd | st.sampled_from(["cuda:99", "cpu:0", "meta", "mps", "cuda:-1"]),
    "--data-dir": st.sampled_from(["", "a-file", "nowhere", "empty", "spoiled"]),
    "--out": st.sampled_from(["", "a-file", "a-file/below", "/dev/null"]),
    "--reference": st.just(""),
    "--reproduce": odd | st.sampled_from(["", "nowhere", "a-file", "..", "/"]),
}
"""Option → values that it cannot have."""

WELL_FORMED = {
    **{"--network": "resnet4", "--Nt": "2", "--lr": "0.1", "--num_epochs": "1", "--seeds": "3"},
    **{"--train-images": "20", "--gradient": "anode,node"},
}


@st.composite
def command_lines(draw):
    """A malformed value among well-formed ones, an option without a value, or one given twice."""
    option = draw(st.sampled_from(sorted(MALFORMED)))
    kind = draw(st.sampled_from(["malformed", "malformed", "missing", "twice"]))
    if kind == "missing":
        return [option] if draw(st.booleans()) else [option, "--fresh"]
    if kind == "twice":
        option = draw(st.sampled_from(sorted(WELL_FORMED)))
        spelling = {"--num_epochs": "--num-epochs"}.get(option, option)
        return [option, WELL_FORMED[option], f"{spelling}={WELL_FORMED[option]}"]
    words = [f"{option}={draw(MALFORMED[option])}"]
    others = [name for name in WELL_FORMED if name.replace("-", "_") != option.replace("-", "_")]
    chosen = draw(st.lists(st.sampled_from(others), max_size=3, unique=True))
    words += [f"{name}={WELL_FORMED[name]}" for name in chosen]
    return draw(st.permutations(words))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what command lines name, and the user's own modules."""
    folder = tmp_path_factory.mktemp("malformed")
    (folder / "a-file").write_text("")
    (folder / "empty").mkdir()
    (folder / "spoiled" / "train" / "a\nclass\x1b[31m").mkdir(parents=True)
    for name, content in FOREIGN.items():
        (folder / f"foreign_{name}.py").write_text(content)
    return folder


@pytest.mark.fault("malformed")
@given(words=command_lines())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_command_line_is_one_line_and_exit_code_2(
    words, place, monkeypatch, capsys, injected
):
    def called(*args, **kwargs):
        raise AssertionError(f"{words} was taken for a command line")

    def files():
        return sorted(f for f in place.rglob("*") if "__pycache__" not in f.parts)

    with monkeypatch.context() as patched:
        patched.chdir(place)
        patched.setattr(sys, "path", [*sys.path])
        patched.setattr(executors, "measure_step_costs", called)
        patched.setattr(measure.Session, "measure", called)
        patched.setattr(official, "_download", called)
        before = files()
        out = [] if any(word.startswith("--out") for word in words) else ["--out", "results"]
        assert run_bench.main([*out, *words]) == 2
        assert files() == before
    said = capsys.readouterr()
    assert re.fullmatch(r"error: [^\n]+\n", said.err)
    assert said.err[:-1].isprintable()
    assert re.fullmatch("(smoke on .*\n)?", said.out)  # which is printed before data is read
    injected(1, "exit code 2 and one line, nothing written")


def test_every_option_that_takes_a_value_is_given_malformed_ones():
    takes_one = [action for action in options.parser()._actions if action.nargs is None]
    assert {name for action in takes_one for name in action.option_strings} == {*MALFORMED}
