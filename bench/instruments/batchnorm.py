"""Test accuracy with each kind of BatchNorm statistics; docs/results.md describes the kinds.

The kinds: running (an ordinary test, not measured here), forward, batch, reestimated,
per_evaluation, plain.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.data import DeviceData, evaluation_batches, train_batches
from bench.data.batches import epoch_plan
from bench.experiment import Experiment
from bench.training.forward_statistics import batch_norms
from bench.training.network import build_network, tensors_of
from bench.training.step import Evaluation, evaluate

EVERY_EPOCH, AT_THE_END = ("forward", "batch"), ("reestimated", "per_evaluation", "plain")
KINDS = (*EVERY_EPOCH, *AT_THE_END)

TEST_IMAGES_OF_AN_EPOCH = 5_000
"""Shuffled test images before the last epoch: all 10,000 would take over 5% of the epoch's time."""


def forward_images(train_images: int, test_images: int, *, is_last: bool) -> int:
    """The number of images that the tests after an epoch send forward through the network, with
    the running statistics and with every kind that `StatisticsTest` measures."""
    if is_last:  # re-estimated from training images twice: augmented, and plain
        return test_images * (1 + len(KINDS)) + 2 * train_images
    return test_images + len(EVERY_EPOCH) * min(test_images, TEST_IMAGES_OF_AN_EPOCH)


Batches = Iterable[tuple[Tensor, Tensor]]
"""Images and labels."""


class StatisticsTest:
    """Tests an experiment's weights with each kind of BatchNorm statistics.

    It has a network of its own, into which weights and buffers are copied: the network in training,
    its optimiser and the random state are unchanged.
    """

    def __init__(self, experiment: Experiment, data: DeviceData, device: torch.device) -> None:
        self._experiment = experiment
        self._data = data
        self._network = build_network(experiment, device)
        # A fixed order: images come sorted by class from a folder.
        shuffled = torch.Generator().manual_seed(0)
        self._order = torch.randperm(len(data.test_labels), generator=shuffled).to(device)

    def measure(
        self,
        network: nn.Module,
        running: Evaluation,
        forward: Mapping[str, Tensor] | None,
        epoch: int,
        on_step_end: Callable[[], None] = lambda: None,
    ) -> dict[str, Evaluation]:
        """Test the network with each kind of statistics that is due in this epoch.

        running: the test with the running statistics. forward: the statistics that forward passes
        alone updated; None if those are the running ones. After the last epoch all kinds are
        measured, on all test images; before it, those of EVERY_EPOCH on the first
        TEST_IMAGES_OF_AN_EPOCH of the shuffled ones. Empty for a network without BatchNorm;
        without `per_evaluation` if the number of evaluations of f differs between batches.
        `on_step_end` is called after every batch.
        """
        if not batch_norms(self._network):
            return {}
        is_last = epoch == self._experiment.num_epochs
        order = self._order if is_last else self._order[:TEST_IMAGES_OF_AN_EPOCH]
        images, labels = self._data.test_images[order], self._data.test_labels[order]

        def test(batch_size: int | None = None) -> Evaluation:
            return evaluate(self._network, images, labels, on_step_end, batch_size)

        found: dict[str, Evaluation] = {}
        self._copy(network, forward or {})
        if forward is not None:
            found["forward"] = test()
        with _own_statistics(self._network):
            found["batch"] = test(_even(len(labels), self._experiment.batch_size))
        if is_last:
            augmented = self._estimated(network, self._augmented(epoch), on_step_end)
            augmented.put_one_set_into(self._network)
            found["reestimated"] = test()
            if augmented.is_regular:
                with augmented.each_evaluation_of(self._network) as without_statistics:
                    per_evaluation = test()
                if not without_statistics:
                    found["per_evaluation"] = per_evaluation
            plain = self._estimated(network, self._plain(epoch), on_step_end)
            plain.put_one_set_into(self._network)
            found["plain"] = test()
            # In the order of the data set, so that two runs can be compared.
            found = {
                kind: result._replace(correct=result.correct[torch.argsort(order)])
                for kind, result in found.items()
            }
        return {"forward": running, **found}

    def _copy(self, network: nn.Module, buffers: Mapping[str, Tensor]) -> None:
        given = {**tensors_of(network), **buffers}
        with torch.no_grad():
            for name, tensor in tensors_of(self._network).items():
                tensor.copy_(given[name])

    def _estimated(
        self, network: nn.Module, batches: Batches, on_step_end: Callable[[], None]
    ) -> "BatchStatistics":
        self._copy(network, {})
        return estimate(self._network, batches, on_step_end)

    def _augmented(self, epoch: int) -> Batches:
        experiment = self._experiment
        return train_batches(
            self._data, seed=experiment.seed, epoch=epoch, batch_size=experiment.batch_size
        )

    def _plain(self, epoch: int) -> Batches:
        """The images of `_augmented` in the same order, without augmentation."""
        labels = self._data.train_labels
        order = epoch_plan(self._experiment.seed, epoch, len(labels)).order.to(labels.device)
        size = self._experiment.batch_size
        for part in order.split(size):
            yield next(evaluation_batches(self._data.train_images[part], labels[part], size))


class BatchStatistics(NamedTuple):
    """Means over batches of the statistics of each BatchNorm's input.

    sets: layer name → mean and unbiased variance, float64 (2, channels), for each evaluation of the
    layer in a pass through the network. is_regular: every pass had as many evaluations.
    """

    sets: dict[str, list[Tensor]]
    is_regular: bool

    def put_one_set_into(self, network: nn.Module) -> None:
        """Set each layer's running statistics to the mean over its evaluations."""
        for name, layer in batch_norms(network).items():
            _put(layer, torch.stack(self.sets[name]).mean(0))

    @contextmanager
    def each_evaluation_of(self, network: nn.Module) -> Iterator[set[str]]:
        """A context in which each evaluation of a layer uses its own set of statistics.

        Yields the names of layers that were evaluated more often than there are sets.
        """
        evaluations: Counter[str] = Counter()
        without_statistics: set[str] = set()

        def put(name: str, layer: _BatchNorm, _: object) -> None:
            number = evaluations[name]
            evaluations[name] += 1
            if number < len(self.sets[name]):
                _put(layer, self.sets[name][number])
            else:
                without_statistics.add(name)

        with ExitStack() as hooks:
            hooks.enter_context(network.register_forward_pre_hook(lambda *_: evaluations.clear()))
            for name, layer in batch_norms(network).items():
                hook = partial(put, name)
                hooks.enter_context(layer.register_forward_pre_hook(hook))
            yield without_statistics


@torch.no_grad()
def estimate(
    network: nn.Module, batches: Batches, on_step_end: Callable[[], None] = lambda: None
) -> BatchStatistics:
    """Statistics of every BatchNorm over batches (images, labels) in training mode.

    A batch is weighted by its number of images. Changes the network's running statistics.
    """
    layers = batch_norms(network)
    sums: dict[str, list[Tensor]] = {name: [] for name in layers}
    evaluations: Counter[str] = Counter()
    weight = 0

    def add(name: str, layer: _BatchNorm, *_: object) -> None:
        number, own = evaluations[name], torch.stack(_statistics(layer)).double()
        evaluations[name] += 1
        if number == len(sums[name]):
            sums[name].append(torch.zeros_like(own))
        sums[name][number] += weight * own

    counts, images_seen = set(), 0
    network.train()
    device = next(network.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    with ExitStack() as restored, torch.random.fork_rng(devices=cuda):
        torch.manual_seed(0)  # for a network that has dropout
        # With a momentum of 1 the running statistics after an evaluation are the batch's own.
        _set_momentum(layers.values(), 1.0, restored)
        for name, layer in layers.items():
            restored.enter_context(layer.register_forward_hook(partial(add, name)))
        for images, _ in batches:
            weight = len(images)
            images_seen += weight
            evaluations.clear()
            network(images)
            counts.add(tuple(sorted(evaluations.items())))
            on_step_end()
    return BatchStatistics(
        {name: [total / images_seen for total in own] for name, own in sums.items()},
        len(counts) == 1,
    )


@contextmanager
def _own_statistics(network: nn.Module) -> Iterator[None]:
    """A context in which BatchNorm uses the statistics of its input, in evaluation mode too."""
    layers = batch_norms(network).values()

    def train(layer: nn.Module, inputs: object) -> None:
        layer.train()

    with ExitStack() as restored:
        _set_momentum(layers, 0.0, restored)
        for layer in layers:
            restored.enter_context(layer.register_forward_pre_hook(train))
        yield


def _set_momentum(layers: Iterable[_BatchNorm], value: float, restored: ExitStack) -> None:
    """Set the momentum of the layers until `restored` ends."""
    for layer in layers:
        restored.callback(setattr, layer, "momentum", layer.momentum)
        layer.momentum = value


def _statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def _put(layer: _BatchNorm, statistics: Tensor) -> None:
    for buffer, values in zip(_statistics(layer), statistics, strict=True):
        buffer.copy_(values)


def _even(count: int, batch_size: int) -> int:
    """The batch size that splits `count` images into even batches of at most `batch_size`."""
    return -(-count // -(-count // batch_size))
