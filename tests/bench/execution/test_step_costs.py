"""The cost of a training step of each configuration, from which a suite's time is estimated."""

import pytest
import torch

import models
from bench.execution.executors import Local, step_costs
from bench.execution.step_costs import estimate_seconds, measure_step_costs
from bench.instruments import memory
from bench.instruments.batchnorm import forward_images
from tests.bench.builders import experiment, train, workload


def measured(tmp_path, experiments, **how):
    return measure_step_costs(workload(tmp_path), experiments, repeats=1, **how)


def test_step_costs_cover_each_configuration_once(tmp_path):
    experiments = [experiment(gradient=g, seed=s) for g in ("anode", "node") for s in (0, 1)]
    found = measured(tmp_path, experiments, batch_size=8)
    assert len(found) == 2 * 4
    values = {(m.gradient, m.quantity): m.value for m in found}
    assert values["anode", "nfe_forward"] == values["anode", "nfe_backward"] == 4
    assert values["anode", "peak_memory"] > 1e6
    assert all(m.batch_size == 8 for m in found)
    seconds = values["anode", "seconds_per_step"] + values["node", "seconds_per_step"]
    estimate = estimate_seconds(experiments, found, train_images=1, test_images=1)
    images = 2 * 80 + of_the_tests(80, 40) / 3
    assert estimate == pytest.approx(2 * seconds / 8 * images)


def of_the_tests(train_images, test_images):
    """The images that the tests of a run of two epochs pass forward."""
    sizes = train_images, test_images
    return forward_images(*sizes, is_last=False) + forward_images(*sizes, is_last=True)


def test_estimate_counts_the_images_of_every_test(tmp_path):
    """`node` has every kind of statistics, so none of the images that are counted is left out."""
    passed = []

    def count(module, inputs):
        if not torch.is_grad_enabled() and getattr(module, "in_channels", None) == 3:
            passed.append(len(inputs[0]))

    counting = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        train(tmp_path, gradient="node")
    finally:
        counting.remove()
    tests = [forward_images(80, 40, is_last=is_last) for is_last in (False, True)]
    assert sum(passed) == sum(tests)


def test_configuration_that_does_not_fit_or_fails_is_left_out(tmp_path, monkeypatch):
    original = memory.peak_bytes

    def peak(step, device):
        block = next(m for m in step.__self__.network.modules() if isinstance(m, models.ODEBlock))
        if block.gradient == "node":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(step, device)

    monkeypatch.setattr(memory, "peak_bytes", peak)
    broken = "tests.bench.training.test_training:ALWAYS_FAILS"
    experiments = [experiment(gradient=g) for g in (broken, "node", "anode")]
    assert {m.gradient for m in measured(tmp_path, experiments, batch_size=8)} == {"anode"}


def test_step_is_measured_on_no_more_images_than_it_trains_on(tmp_path):
    found = measured(tmp_path, [experiment(batch_size=1000, train_images=20)])
    assert {m.batch_size for m in found} == {20}


def test_measurements_are_kept_but_for_those_that_a_new_one_is_compared_with(tmp_path):
    def recorded(*gradients):
        experiments = [experiment(gradient=g, batch_size=8) for g in gradients]
        costs = step_costs(Local(), workload(tmp_path), experiments, print)
        return {m.gradient: m.value for m in costs if m.quantity == "seconds_per_step"}

    first = recorded("anode", "baseline")
    second = recorded("anode", "backprop")
    assert second.keys() == {"anode", "baseline", "backprop"}
    assert (second["baseline"], second["anode"] == first["anode"]) == (first["baseline"], False)
    assert recorded("anode", "baseline", "backprop") == second
