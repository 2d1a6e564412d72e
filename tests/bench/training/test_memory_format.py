"""The memory format in which networks compute."""

import pytest
import torch

from bench import environment
from bench.environment import describe
from bench.training.network import MEMORY_FORMATS, build_network
from tests.bench.builders import CPU, experiment


@pytest.mark.parametrize("given", MEMORY_FORMATS.values())
@pytest.mark.parametrize("name", MEMORY_FORMATS)
def test_network_computes_in_its_memory_format_whatever_that_of_its_images(name, given):
    network = build_network(experiment(network="resnet10"), CPU, name)
    expected = MEMORY_FORMATS[name]
    seen = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=expected)
            module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.randn(2, 3, 32, 32).contiguous(memory_format=given))
    assert seen
    assert all(z.is_contiguous(memory_format=expected) for z in seen)


def test_memory_format_of_the_device_is_the_default_and_stands_in_the_record(monkeypatch):
    monkeypatch.setitem(environment._FASTEST_FORMAT, "cpu", environment.CONTIGUOUS)
    network = build_network(experiment(), CPU)
    assert next(network.parameters()).is_contiguous()
    assert describe(CPU)["memory_format"] == "contiguous"
