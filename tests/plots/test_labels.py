"""Names in figures and tables, of the user's own code as well."""

import sys

import pytest

import plots
from bench import records, sources
from models import NETWORKS
from plots import labels, style
from solvers import GRADIENTS, METHODS
from tests.bench.builders import experiment, row, run

MODULE = """
from dataclasses import dataclass
from solvers.gradients.backprop import Backprop

class Named(Backprop):
    name = "named"

class Labelled(Backprop):
    name, label = "labelled", "My  method"

@dataclass(frozen=True)
class Scaled:
    factor: float = 1.0
    label = "Scaled"
    name = "scaled"
    def solve(self, rhs, z0, method, n_steps): ...

NAMED, LABELLED, SCALED = Named(), Labelled(), Scaled()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own", None)


def test_every_network_scheme_and_gradient_method_has_its_label_and_its_look():
    assert NETWORKS.keys() <= labels.NETWORKS.keys()
    assert METHODS.keys() <= labels.METHODS.keys()
    assert GRADIENTS.keys() <= labels.GRADIENTS.keys()
    assert GRADIENTS.keys() <= style.LOOKS.keys()
    assert len({style.LOOKS[name] for name in GRADIENTS}) == len(GRADIENTS)


def test_label_or_else_name_of_the_users_own_code_is_recorded(own):
    names = ("own:NAMED", "own:LABELLED", "own:SCALED:factor=2", "anode")
    cases = [experiment(gradient=name, method="rk2") for name in names]
    assert sources.labels(*cases) == {
        "own:NAMED": "named",
        "own:LABELLED": "My method",
        "own:SCALED:factor=2.0": "Scaled",
    }
    assert sources.described(*cases)["sources"].keys() == {
        "own:NAMED",
        "own:LABELLED",
        "own:SCALED",
    }


@pytest.mark.parametrize(
    ("stated", "name", "shown"),
    [
        ({}, "own:NAMED", "own:NAMED"),
        ({"own:NAMED": "named"}, "own:NAMED", "named"),
        ({"own:S:f=2.0": "Scaled"}, "own:S:f=2.0", "Scaled (f=2.0)"),
        ({"own:S:f=2.0": "scaled, f=2.0"}, "own:S:f=2.0", "scaled, f=2.0"),
        ({"own:A": "mine", "own:B": "mine"}, "own:B", "mine (own:B)"),
        ({"own:A": "anode"}, "own:A", "anode (own:A)"),
        ({"own:A": "mine"}, "anode-revolve:m=2", "ANODE, binomial checkpoints (m=2)"),
    ],
)
def test_shown_labels_are_those_that_records_state_and_tell_methods_apart(stated, name, shown):
    with labels.stated(stated):
        assert labels.gradient(name) == shown
    assert labels.gradient("own:NAMED") == "own:NAMED"


def test_figures_show_the_labels_of_records(tmp_path):
    where = {"device": "cpu", "device_name": "here"}
    for name, stated in (("new", {"labels": {"own:NEW": "My method"}}), ("old", {})):
        gradient = f"own:{name.upper()}"
        made = run(name, epochs=[row(1)], gradient=gradient, environment={**where, **stated})
        records.write_run(tmp_path, made)
    plots.draw(["training", "accuracy_table"], tmp_path / "suite", ["new", "old"])
    for file in ("training-rk2-nt2.svg", "accuracy.md"):
        text = (tmp_path / "suite" / "figures" / file).read_text()
        assert "My method" in text
        assert "own:NEW" not in text
        assert "own:OLD" in text
