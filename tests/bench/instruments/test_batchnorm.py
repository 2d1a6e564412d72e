"""Test accuracy with each kind of BatchNorm statistics."""

import copy

import pytest
import torch
from torch import nn

from bench.data import DeviceData, epoch_plan, evaluation_batches, generated, train_batches
from bench.instruments import batchnorm
from bench.instruments.batchnorm import KINDS, StatisticsTest, estimate
from bench.training.forward_statistics import batch_norms
from bench.training.network import build_network
from bench.training.step import evaluate
from bench.training.trainer import Probe, Trainer
from models import ode_blocks
from tests.bench import builders
from tests.bench.builders import CPU

SMALL = {"num_epochs": 2, "batch_size": 32, "lr": 0.02, "train_images": 96, "test_images": 64}


@pytest.fixture(scope="module")
def data():
    """96 training and 64 test images, sorted by class as they come from a folder."""
    held = DeviceData.of(generated.load(10).subset(96, 64), CPU)
    train, test = held.train_labels.argsort(), held.test_labels.argsort()
    tested = held.test_images[test], held.test_labels[test]
    return DeviceData(held.padded[train], held.train_labels[train], *tested)


def experiment(gradient, **changes):
    return builders.experiment(**{**SMALL, "gradient": gradient, **changes})


def train(trained, data):
    trainer = Trainer(trained, CPU)
    test = StatisticsTest(trained, data, CPU)
    return trainer, list(trainer.epochs(data, lambda network: Probe(), test.measure))


@pytest.fixture(scope="module")
def node(data):
    """The trainer of `node` after its training, its rows, the batches that its statistics were
    estimated on, and the labels of every batch that they were estimated or tested on."""
    estimated, seen = [], []

    def estimating(network, batches, between):
        estimated.append(batches := list(batches))
        seen.extend(labels for _, labels in batches)
        return estimate(network, batches)

    def testing(network, images, labels, between, batch_size=None):
        seen.extend(labels.split(batch_size or len(labels)))
        return evaluate(network, images, labels, between, batch_size)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batchnorm, "estimate", estimating)
        patched.setattr(batchnorm, "evaluate", testing)
        return *train(experiment("node"), data), estimated, seen


def test_forward_statistics_of_node_are_the_running_statistics_of_node_frozen(data, node):
    trainer, rows, *_ = node
    frozen, frozen_rows = train(experiment("node-frozen"), data)
    kept, own = trainer.snapshot().forward_statistics, dict(frozen.network.named_buffers())
    assert kept.keys() == own.keys()
    assert all(torch.equal(kept[name], own[name]) for name in own)
    assert any(not torch.equal(b, own[n]) for n, b in trainer.network.named_buffers())
    assert rows[-1].test_accuracy_forward == frozen_rows[-1].test_accuracy
    assert rows[-1].test_loss_forward == pytest.approx(frozen_rows[-1].test_loss)
    assert rows[-1].train_loss == frozen_rows[-1].train_loss


def test_anode_needs_no_second_set_and_is_the_baseline_with_one_euler_step(data):
    trainer, anode = train(experiment("anode", method="euler", n_steps=1), data)
    assert trainer.snapshot().forward_statistics is None
    assert [r.test_accuracy_forward for r in anode] == [r.test_accuracy for r in anode]
    _, baseline = train(experiment("baseline"), data)
    for name in ("train_loss", "test_loss", *(f"test_loss_{kind}" for kind in KINDS)):
        assert [getattr(r, name) for r in anode] == [getattr(r, name) for r in baseline], name


def test_estimated_statistics_are_those_of_the_inputs_of_each_evaluation(data):
    """Every layer's, against means and variances of its inputs in each evaluation of f."""
    network = build_network(experiment("anode"), CPU)
    given = {name: [] for name in batch_norms(network)}
    for name, layer in batch_norms(network).items():
        layer.register_forward_pre_hook(lambda _, x, name=name: given[name].append(x[0].double()))
    batches = list(train_batches(data, seed=0, epoch=1, batch_size=32))
    found = estimate(network, batches)
    for name, inputs in given.items():
        evaluations = len(inputs) // len(batches)
        assert evaluations == len(found.sets[name]) == (4 if "rhs" in name else 1)
        assert len({tuple(mean.tolist()) for mean, _ in found.sets[name]}) == evaluations
        for number in range(evaluations):
            own = inputs[number::evaluations]
            mean = torch.stack([x.mean((0, 2, 3)) for x in own]).mean(0)
            variance = torch.stack([x.var((0, 2, 3)) for x in own]).mean(0)
            # BatchNorm adds up to 32 × 1024 numbers in float32.
            torch.testing.assert_close(found.sets[name][number][0], mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.sets[name][number][1], variance, rtol=1e-4, atol=0)


def test_per_evaluation_statistics_are_used_in_the_evaluation_of_their_own(data):
    """With the batch that they were estimated on, both modes give the same."""
    network = build_network(experiment("anode"), CPU)
    images, labels = next(train_batches(data, seed=0, epoch=1, batch_size=96))
    found = estimate(network, [(images, labels)])
    expected = network.train()(images)
    with found.each_evaluation_of(network):
        given = network.eval()(images)
    # The variance that evaluation uses is the unbiased one.
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)


def test_batches_mix_the_classes_of_sorted_images(node):
    """Statistics of a batch of one class are those of no other class."""
    *_, seen = node
    assert len(seen) > 10
    assert min(len(labels.unique()) for labels in seen) > 5


def test_plain_and_augmented_statistics_are_of_the_same_images(data, node):
    _, _, (augmented, plain), _ = node
    assert [labels.tolist() for _, labels in augmented] == [labels.tolist() for _, labels in plain]
    order = epoch_plan(0, 2, 96).order
    expected = evaluation_batches(data.train_images[order], data.train_labels[order], 32)
    for (images, _), (given, _) in zip(expected, plain, strict=True):
        assert torch.equal(images, given)
    assert not torch.equal(augmented[0][0], plain[0][0])


def tensors(state, prefix=""):
    """The tensors of a nested state, by their path."""
    if isinstance(state, torch.Tensor):
        return {prefix: state}
    items = state.items() if isinstance(state, dict) else ()
    return {k: v for name, part in items for k, v in tensors(part, f"{prefix}/{name}").items()}


def test_the_statistics_test_leaves_no_trace(data):
    trained = experiment("node")
    trainer = Trainer(trained, CPU)
    next(trainer.epochs(data, lambda network: Probe()))
    before = copy.deepcopy(tensors(vars(trainer.snapshot())))
    running = evaluate(trainer.network, data.test_images, data.test_labels)
    is_training = [m.training for m in trainer.network.modules()]
    forward = trainer.snapshot().forward_statistics
    StatisticsTest(trained, data, CPU).measure(trainer.network, running, forward, 2)
    after = tensors(vars(trainer.snapshot()))
    assert [m.training for m in trainer.network.modules()] == is_training
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_correct_predictions_are_in_the_order_of_the_data_set(data, node):
    trainer, rows, *_ = node
    known = trainer.state.correct_images
    assert known.keys() == {"running", *KINDS}
    for kind, correct in known.items():
        name = "test_accuracy" if kind == "running" else f"test_accuracy_{kind}"
        assert correct.double().mean() == getattr(rows[-1], name)
    network = copy.deepcopy(trainer.network)
    for kind, more in (("running", {}), ("forward", trainer.snapshot().forward_statistics)):
        network.load_state_dict({**network.state_dict(), **more})
        again = evaluate(network, data.test_images, data.test_labels).correct
        assert torch.equal(known[kind], again)


def plain_network(ode_block, num_classes):
    class Scaled(nn.Conv2d):
        def forward(self, t, z):
            return super().forward(z).tanh()

    block = ode_block(Scaled(3, 3, 3, padding=1))
    return nn.Sequential(block, nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


def test_a_network_without_batchnorm_has_none(data):
    trainer, rows = train(experiment("anode", network=f"{__name__}:plain_network"), data)
    assert trainer.state.correct_images.keys() == {"running"}
    assert rows[-1].test_accuracy_batch is None


@pytest.mark.parametrize(("in_training", "in_evaluation"), [((1, 2), 1), ((1, 1), 2)])
def test_a_solver_whose_evaluations_vary_has_no_set_for_each(data, in_training, in_evaluation):
    trained = experiment("anode", batch_size=48)
    trainer, test = Trainer(trained, CPU), StatisticsTest(trained, data, CPU)
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
