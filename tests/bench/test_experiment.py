"""One experiment: the published protocol, and a name that no other experiment has."""

import dataclasses
import re
import sys
import types
from itertools import accumulate

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from bench.experiment import Experiment
from bench.suites import SUITES, Suite
from solvers import GRADIENTS

BASIC = {"network": "resnet4", "gradient": "anode", "method": "rk2", "n_steps": 2}


def named(**changes):
    return Experiment(**{**BASIC, **changes}).name


def test_defaults_are_the_published_protocol():
    experiment = Experiment(**BASIC)
    assert (experiment.num_epochs, experiment.batch_size, experiment.lr) == (350, 256, 0.1)


@pytest.mark.parametrize(
    ("epochs", "drops"), [(350, (150, 250)), (35, (15, 25)), (7, (3, 5)), (1, (1, 1)), (2, (1, 2))]
)
def test_drops_keep_their_fractions_of_the_run(epochs, drops):
    assert Experiment(**BASIC, num_epochs=epochs).lr_drops == drops


def test_name_spells_out_what_differs_from_the_protocol():
    assert named() == "resnet4-rk2-nt2-anode-seed0"
    changed = named(seed=3, num_epochs=10, lr=0.05, train_images=500)
    assert changed == "resnet4-rk2-nt2-anode-seed3-epochs10-lr0.05-train500"
    assert named(gradient="anode-revolve:m=2") == "resnet4-rk2-nt2-anode-revolve_m=2-seed0"
    assert re.fullmatch(
        r"tests.models.test_networks_tiny-rk2-nt2-anode-seed0-[0-9a-f]{10}",
        named(network="tests.models.test_networks:tiny"),
    )


def test_every_field_shows_in_the_name():
    changes = {
        **{"network": "alexnet", "gradient": "node", "method": "euler", "n_steps": 3, "seed": 1},
        **{"num_classes": 100, "num_epochs": 2, "batch_size": 8, "lr": 0.2, "train_images": 9},
        **{"test_images": 9, "probe_images": 9, "precision": "bfloat16"},
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Experiment)}
    names = {named(**{field: value}) for field, value in changes.items()}
    assert len(names | {named()}) == len(changes) + 1


def test_spellings_do_not_make_another_experiment():
    published = Experiment(network="sqnxt", gradient="ANODE", method="RK2", n_steps=2)
    assert published == Experiment(network="squeezenext", gradient="anode", method="rk2", n_steps=2)


def test_a_baseline_is_euler_with_one_step():
    baseline = Experiment(network="resnet4", gradient="baseline", method="rk4", n_steps=7)
    assert (baseline.method, baseline.n_steps) == ("euler", 1)
    assert baseline.name == "resnet4-baseline-seed0"


class AnyModule(types.ModuleType):
    """A module that has every attribute."""

    def __getattr__(self, name):
        return GRADIENTS["anode"]


WORDS = st.text(st.sampled_from("aAbZ09_.-é+ "), min_size=1, max_size=5)
OWN = st.builds("{}:{}".format, WORDS, WORDS)
EXPERIMENTS = st.fixed_dictionaries(
    {
        "network": st.sampled_from(["resnet4", "resnet10"]) | OWN,
        "gradient": st.sampled_from(["baseline", "anode", "anode-revolve:m=1"]) | OWN,
        "method": st.sampled_from(["euler", "rk4_38"]),
        "n_steps": st.integers(1, 12),
        "seed": st.integers(0, 12),
        "lr": st.sampled_from([0.1, 1e-20, 1e20, 0.5]),
        "num_epochs": st.sampled_from([350, 1, 10]),
    }
)


@given(EXPERIMENTS, EXPERIMENTS, st.sampled_from(["network", "gradient", None]))
@example({**BASIC, "gradient": "mine:a_b"}, {**BASIC, "gradient": "mine_a:b"}, None)
@example({**BASIC, "gradient": "mine:MINE"}, {**BASIC, "gradient": "mine:Mine"}, None)
def test_different_experiments_never_have_one_name_on_any_file_system(one, other, alone):
    other = {**one, alone: other[alone]} if alone else other
    with pytest.MonkeyPatch.context() as patched:
        for spec in (one["network"], one["gradient"], other["network"], other["gradient"]):
            module = spec.partition(":")[0]
            if ":" in spec and module != "anode-revolve":
                for name in (module, *accumulate(module.split("."), "{}.{}".format)):
                    patched.setitem(sys.modules, name, AnyModule(name))
        try:
            one, other = Experiment(**one), Experiment(**other)
        except ValueError:  # a module's name that Python does not import
            reject()
    assert (one == other) == (one.name.casefold() == other.name.casefold())
    assert re.fullmatch(r"[A-Za-z0-9._=-]+", one.name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": -0.1}, "lr must be a positive number"),
        ({"lr": float("nan")}, "lr must be a positive number"),
        ({"num_epochs": 0}, "num_epochs must be"),
        ({"seed": -1}, "seed must be"),
        ({"gradient": "nod"}, "did you mean 'node'.*choose from baseline, backprop"),
        ({"gradient": "baseline", "method": "rk9"}, "unknown method"),
        ({"precision": "half"}, "unknown precision 'half': choose from float32"),
    ],
)
def test_values_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Experiment(**{**BASIC, **change})


def test_suites_have_that_number_of_runs_each_with_its_own_name():
    suites = [suite for suite in SUITES.values() if isinstance(suite, Suite)]
    names = {suite.name: [e.name for e in suite.experiments()] for suite in suites}
    assert {suite: len({*own}) for suite, own in names.items()} == {
        **{"smoke": 12, "cifar10-quick": 12, "cifar10-short": 84, "cifar100": 3},
        "cifar10": 140,  # four networks, five seeds, three schemes for two methods, one baseline
    }


def test_full_suite_follows_the_protocol():
    for experiment in SUITES["cifar10"].experiments():
        assert (experiment.num_epochs, experiment.batch_size, experiment.lr) == (350, 256, 0.1)
        assert experiment.train_images is None
        scheme = experiment.method, experiment.n_steps
        assert scheme in {("euler", 1), ("euler", 2), ("rk2", 2)}


def test_schemes_that_a_suite_leaves_out_are_run_where_both_are_asked_for():
    suite = SUITES["cifar10-short"]
    schemes = {(e.method, e.n_steps) for e in suite.replaced(methods=("rk2",)).experiments()}
    assert schemes == {("rk2", 2), ("euler", 1)}  # the baseline's
    both = suite.replaced(methods=("rk2",), n_steps=(1,), gradients=("node",))
    assert {(e.method, e.n_steps) for e in both.experiments()} == {("rk2", 1)}
