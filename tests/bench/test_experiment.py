import dataclasses

import pytest

from bench.experiment import Experiment
from bench.suites import SUITES

BASIC = {"network": "resnet4", "gradient": "anode", "method": "rk2", "n_steps": 2}


def test_defaults_are_the_published_protocol():
    experiment = Experiment(**BASIC)
    assert (experiment.num_epochs, experiment.batch_size, experiment.lr) == (350, 256, 0.1)
    assert experiment.lr_drops == (150, 250)


@pytest.mark.parametrize(
    ("epochs", "drops"), [(350, (150, 250)), (35, (15, 25)), (7, (3, 5)), (1, (1, 1)), (2, (1, 2))]
)
def test_drops_keep_their_fractions_of_the_run(epochs, drops):
    assert Experiment(**BASIC, num_epochs=epochs).lr_drops == drops


def test_name_spells_out_what_differs_from_the_protocol():
    assert Experiment(**BASIC).name == "resnet4-rk2-nt2-anode-seed0"
    changed = Experiment(**BASIC, seed=3, num_epochs=10, lr=0.05, train_images=500)
    assert changed.name == "resnet4-rk2-nt2-anode-seed3-epochs10-lr0.05-train500"


def test_every_field_shows_in_the_name():
    changes = {
        "network": "alexnet",
        "gradient": "node",
        "method": "euler",
        "n_steps": 3,
        "seed": 1,
        "num_classes": 100,
        "num_epochs": 2,
        "batch_size": 8,
        "lr": 0.2,
        "train_images": 9,
        "test_images": 9,
        "probe_images": 9,
        "precision": "bfloat16",
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Experiment)}
    names = {Experiment(**{**BASIC, field: value}).name for field, value in changes.items()}
    assert len(names | {Experiment(**BASIC).name}) == len(changes) + 1


def test_spellings_do_not_make_another_experiment():
    published = Experiment(network="sqnxt", gradient="ANODE", method="RK2", n_steps=2)
    assert published == Experiment(network="squeezenext", gradient="anode", method="rk2", n_steps=2)


def test_a_baseline_is_euler_with_one_step():
    baseline = Experiment(network="resnet4", gradient="baseline", method="rk4", n_steps=7)
    assert (baseline.method, baseline.n_steps) == ("euler", 1)
    assert baseline.name == "resnet4-baseline-seed0"


def test_foreign_names_make_a_folder_name():
    experiment = Experiment(**{**BASIC, "network": "tests.models.test_networks:tiny"})
    assert experiment.name == "tests.models.test_networks_tiny-rk2-nt2-anode-seed0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": -0.1}, "lr must be a positive number"),
        ({"lr": float("nan")}, "lr must be a positive number"),
        ({"num_epochs": 0}, "num_epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"seed": -1}, "seed must be"),
        ({"n_steps": 0}, "n_steps must be"),
        ({"train_images": 0}, "train_images must be"),
        ({"gradient": "nod"}, "did you mean 'node'.*choose from baseline, backprop"),
        ({"gradient": "baseline", "method": "rk9"}, "unknown method"),
        ({"gradient": "node", "method": "rk4"}, "rk4_38"),
    ],
)
def test_values_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Experiment(**{**BASIC, **change})


@pytest.mark.parametrize(
    ("suite", "runs"), [("smoke", 12), ("cifar10-quick", 12), ("cifar10", 100), ("cifar100", 3)]
)
def test_suites_have_so_many_runs(suite, runs):
    # cifar10: four networks, five seeds, Euler and RK2 for two methods, and one baseline.
    experiments = SUITES[suite].experiments()
    assert len(experiments) == runs
    assert len({experiment.name for experiment in experiments}) == runs


def test_full_suite_follows_the_protocol():
    for experiment in SUITES["cifar10"].experiments():
        assert (experiment.num_epochs, experiment.batch_size, experiment.lr) == (350, 256, 0.1)
        assert experiment.train_images is None
        assert experiment.is_baseline or experiment.n_steps == 2
