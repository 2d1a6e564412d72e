"""Test accuracy with each kind of BatchNorm statistics."""

import copy

import pytest
import torch
from torch import nn

from bench.data import DeviceData, epoch_plan, evaluation_batches, generated, train_batches
from bench.experiment import Experiment
from bench.instruments import batchnorm
from bench.instruments.batchnorm import KINDS, StatisticsTest, estimate
from bench.training.forward_statistics import batch_norms
from bench.training.network import build_network
from bench.training.step import evaluate
from bench.training.trainer import Probe, Trainer
from models import ode_blocks

CPU = torch.device("cpu")
SMALL = {"num_epochs": 2, "batch_size": 32, "lr": 0.02, "train_images": 96, "test_images": 64}


@pytest.fixture(scope="module")
def data():
    """96 training and 64 test images, sorted by class as they come from a folder."""
    subset = generated.load(10).subset(96, 64)
    train, test = subset.train_labels.argsort(), subset.test_labels.argsort()
    return DeviceData.of(
        type(subset).of(
            subset.train_images[train],
            subset.train_labels[train],
            subset.test_images[test],
            subset.test_labels[test],
            classes=tuple("0123456789"),
            source="sorted",
        ),
        CPU,
    )


def experiment(gradient, **changes):
    values = {"network": "resnet4", "method": "rk2", "n_steps": 2, **SMALL, **changes}
    return Experiment(gradient=gradient, **values)


def train(trained, data):
    trainer = Trainer(trained, CPU)
    test = StatisticsTest(trained, data, CPU)
    return trainer, list(trainer.epochs(data, lambda network: Probe(), test.measure))


def running_statistics(network):
    return {n: b for n, b in network.named_buffers()}


@pytest.mark.parametrize("method", ["euler", "rk2", "rk4_38"])
def test_forward_statistics_of_node_are_the_running_statistics_of_node_frozen(data, method):
    node, node_rows = train(experiment("node", method=method), data)
    frozen, frozen_rows = train(experiment("node-frozen", method=method), data)
    kept = node.snapshot().forward_statistics
    own = running_statistics(frozen.network)
    assert kept.keys() == own.keys()
    assert all(torch.equal(kept[name], own[name]) for name in own)
    assert any(not torch.equal(b, own[n]) for n, b in running_statistics(node.network).items())
    assert node_rows[-1].test_accuracy_forward == frozen_rows[-1].test_accuracy
    assert node_rows[-1].test_loss_forward == pytest.approx(frozen_rows[-1].test_loss)


@pytest.mark.parametrize("gradient", ["baseline", "anode", "node-frozen"])
def test_a_backward_pass_that_leaves_the_statistics_alone_needs_no_second_set(data, gradient):
    trainer, rows = train(experiment(gradient), data)
    assert trainer.snapshot().forward_statistics is None
    assert [r.test_accuracy_forward for r in rows] == [r.test_accuracy for r in rows]


def test_anode_with_one_euler_step_is_the_baseline(data):
    _, anode = train(experiment("anode", method="euler", n_steps=1), data)
    _, baseline = train(experiment("baseline"), data)
    for name in ("train_loss", "test_loss", *(f"test_loss_{kind}" for kind in KINDS)):
        assert [getattr(r, name) for r in anode] == [getattr(r, name) for r in baseline], name


def test_each_evaluation_of_f_has_its_own_statistics(data):
    network = build_network(experiment("anode", n_steps=3), CPU)
    found = estimate(network, train_batches(data, seed=0, epoch=1, batch_size=32))
    for name, means in found.means.items():
        evaluations = 6 if "rhs" in name else 1
        assert len(means) == len(found.variances[name]) == evaluations
        assert len({tuple(mean.tolist()) for mean in means}) == evaluations


def test_estimated_statistics_are_those_of_the_inputs(data):
    """Every layer's, the stem's too, against means and variances of what it was given."""
    network = build_network(experiment("anode"), CPU)
    given = {name: [] for name in batch_norms(network)}
    for name, layer in batch_norms(network).items():
        layer.register_forward_pre_hook(lambda _, x, name=name: given[name].append(x[0].double()))
    batches = list(train_batches(data, seed=0, epoch=1, batch_size=32))
    found = estimate(network, batches)
    for name, inputs in given.items():
        per_batch = len(inputs) // len(batches)
        for number in range(per_batch):
            own = inputs[number::per_batch]
            mean = torch.stack([x.mean((0, 2, 3)) for x in own]).mean(0)
            variance = torch.stack([x.var((0, 2, 3)) for x in own]).mean(0)
            # BatchNorm adds up to 32 × 1024 numbers in float32.
            torch.testing.assert_close(found.means[name][number], mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.variances[name][number], variance, rtol=1e-4, atol=0)


def test_per_evaluation_statistics_are_put_back_where_they_were_taken(data):
    """With the batch that they were estimated on, both modes give the same."""
    network = build_network(experiment("anode"), CPU)
    images, labels = next(train_batches(data, seed=0, epoch=1, batch_size=96))
    found = estimate(network, [(images, labels)])
    expected = network.train()(images)
    with found.each_evaluation_of(network):
        given = network.eval()(images)
    # The variance that evaluation uses is the unbiased one.
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)


def test_batches_mix_the_classes_of_sorted_images(data, monkeypatch):
    """Statistics of a batch of one class are those of no other class."""
    seen = []

    def record(network, batches, between):
        batches = list(batches)
        seen.extend(labels for _, labels in batches)
        return estimate(network, batches)

    def test(network, images, labels, between, batch_size=None):
        seen.extend(labels.split(batch_size or len(labels)))
        return evaluate(network, images, labels, between, batch_size)

    monkeypatch.setattr(batchnorm, "estimate", record)
    monkeypatch.setattr(batchnorm, "evaluate", test)
    train(experiment("node"), data)
    assert len(seen) > 10
    assert min(len(labels.unique()) for labels in seen) > 5


def test_plain_and_augmented_statistics_are_of_the_same_images(data, monkeypatch):
    batches = []

    def record(network, given, between):
        batches.append(given := list(given))
        return estimate(network, given)

    monkeypatch.setattr(batchnorm, "estimate", record)
    train(experiment("anode"), data)
    augmented, plain = batches
    assert [labels.tolist() for _, labels in augmented] == [labels.tolist() for _, labels in plain]
    order = epoch_plan(0, 2, 96).order
    expected = evaluation_batches(data.train_images[order], data.train_labels[order], 32)
    for (images, _), (given, _) in zip(expected, plain, strict=True):
        assert torch.equal(images, given)
    assert not torch.equal(augmented[0][0], plain[0][0])


def test_the_statistics_test_leaves_no_trace(data):
    trained = experiment("node")
    trainer = Trainer(trained, CPU)
    next(trainer.epochs(data, lambda network: Probe()))
    before = copy.deepcopy(vars(trainer.snapshot()))
    running = evaluate(trainer.network, data.test_images, data.test_labels)
    is_training = [m.training for m in trainer.network.modules()]
    StatisticsTest(trained, data, CPU).measure(
        trainer.network, running, trainer.snapshot().forward_statistics, 2
    )
    after = vars(trainer.snapshot())
    assert [m.training for m in trainer.network.modules()] == is_training
    assert _flat(before).keys() == _flat(after).keys()
    assert all(torch.equal(value, _flat(after)[name]) for name, value in _flat(before).items())


def _flat(state, prefix=""):
    """The tensors of a nested state, by their path."""
    if isinstance(state, torch.Tensor):
        return {prefix: state}
    items = state.items() if isinstance(state, dict) else ()
    return {k: v for name, part in items for k, v in _flat(part, f"{prefix}/{name}").items()}


def test_correct_predictions_are_in_the_order_of_the_data_set(data):
    trainer, rows = train(experiment("node"), data)
    assert trainer.state.correct_images.keys() == {"running", *KINDS}
    for kind, correct in trainer.state.correct_images.items():
        name = "test_accuracy" if kind == "running" else f"test_accuracy_{kind}"
        assert correct.double().mean() == getattr(rows[-1], name)
    assert torch.equal(
        trainer.state.correct_images["running"],
        evaluate(trainer.network, data.test_images, data.test_labels).correct,
    )
    kept = trainer.snapshot().forward_statistics
    trainer.network.load_state_dict({**trainer.network.state_dict(), **kept})
    again = evaluate(trainer.network, data.test_images, data.test_labels).correct
    assert torch.equal(trainer.state.correct_images["forward"], again)


def test_a_network_without_batchnorm_has_none(data):
    trained = experiment("anode", network="tests.bench.instruments.test_batchnorm:plain_network")
    trainer, rows = train(trained, data)
    assert trainer.state.correct_images.keys() == {"running"}
    assert rows[-1].test_accuracy_batch is None


def plain_network(ode_block, num_classes):
    class Scaled(nn.Conv2d):
        def forward(self, t, z):
            return super().forward(z).tanh()

    block = ode_block(Scaled(3, 3, 3, padding=1))
    return nn.Sequential(block, nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


@pytest.mark.parametrize(("in_training", "in_evaluation"), [((1, 2), 1), ((1, 1), 2)])
def test_a_solver_whose_evaluations_vary_has_no_set_for_each(data, in_training, in_evaluation):
    trained = experiment("anode", batch_size=48)
    trainer = Trainer(trained, CPU)
    test = StatisticsTest(trained, data, CPU)
    (block,) = ode_blocks(test._network)
    counts, solve = iter(2 * in_training), block.forward

    def forward(z):
        for _ in range(next(counts) if block.training else in_evaluation):
            solved = solve(z)
        return solved

    block.forward = forward
    running = evaluate(trainer.network, data.test_images, data.test_labels)
    found = test.measure(trainer.network, running, None, 2)
    assert found.keys() == {*KINDS} - {"per_evaluation"}
