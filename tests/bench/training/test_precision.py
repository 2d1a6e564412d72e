"""Precisions: what is computed in what, and that gradients stay exact."""

import pytest
import torch

from bench import environment
from bench.experiment import PRECISIONS
from bench.instruments import gradient_error
from bench.training.network import build_network
from tests.bench.builders import CPU, ONE_EPOCH, experiment, train


@pytest.mark.parametrize("gradient", ["anode", "anode-auto", "anode-steps"])
def test_gradients_of_a_network_are_exact_in_bfloat16(gradient):
    network = build_network(
        experiment(gradient=gradient, network="resnet10", precision="bfloat16"), CPU
    )
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    for _ in range(2):  # anode-auto has a plan for the second pass
        found = gradient_error.measure(network, images, labels)
    # Whole blocks are bit for bit backprop's; those divided are up to the order of summation.
    assert found.error <= (0 if gradient == "anode" else 1e-2)
    assert max(found.state_errors) == 0
    assert found.statistics_error == 0


def test_bfloat16_evaluates_the_network_in_bfloat16_and_keeps_weights_and_logits_in_float32():
    network = build_network(experiment(precision="bfloat16"), CPU)
    seen = []
    convolution = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, given, result: seen.append(result.dtype))
    logits = network(torch.randn(2, 3, 32, 32))
    assert seen[0] == torch.bfloat16
    assert logits.dtype == torch.float32
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_precision_is_in_the_name_and_in_the_record(tmp_path):
    half = {**ONE_EPOCH, "train_images": 4, "precision": "bfloat16"}
    assert experiment(**half).name.endswith("-bfloat16")
    run = train(tmp_path, **half)
    assert run.status == "ok", run.reason
    assert run.environment["precision"] == run.experiment["precision"] == "bfloat16"


def test_tf32_is_off_unless_it_is_asked_for():
    try:
        for name in PRECISIONS:
            environment.prepare(CPU, name)
            allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
            assert allowed == (name == "tf32",) * 2
    finally:
        environment.prepare(CPU)
