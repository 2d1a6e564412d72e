"""Foreign code in the process changes nothing in the runs beside it."""

import random
import sys

import numpy as np
import torch
from torch import nn

from bench.commands import reproduce
from bench.training.network import build_network
from tests.bench.builders import CPU, experiment, ran, workload

ONE_EPOCH = {"num_epochs": 1, "train_images": 20, "test_images": 10, "batch_size": 10}

SETS_WHAT_IT_LIKES = """
import torch
from solvers import GRADIENTS

torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.set_float32_matmul_precision("medium")
torch.manual_seed(7)
MINE = GRADIENTS["anode"]
"""


def test_runs_beside_a_module_that_sets_the_default_dtype_are_those_without_it(
    tmp_path, monkeypatch
):
    def trained(**changes):
        one = experiment(**ONE_EPOCH, **changes)
        return ran(workload(tmp_path), one)

    before = trained()
    (tmp_path / "sets_what_it_likes.py").write_text(SETS_WHAT_IT_LIKES)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        own = trained(gradient="sets_what_it_likes:MINE")
    finally:
        sys.modules.pop("sets_what_it_likes", None)
    assert before.status == own.status == "ok"
    assert reproduce.differences(before, own) == []
    assert reproduce.differences(before, trained()) == []


def draws(ode_block, num_classes):
    """A network that is initialised with Python's and numpy's random numbers, and is careless."""
    torch.set_default_dtype(torch.float64)
    layer = nn.Linear(1, 2, dtype=torch.float32)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([random.random(), np.random.rand()]))
    return layer


def test_seed_fixes_all_random_numbers_of_a_network_and_nothing_beside_it():
    before = random.getstate(), torch.get_rng_state().tolist()

    def bias(seed):
        own = experiment(network=f"{__name__}:draws", seed=seed)
        return tuple(build_network(own, CPU).bias.tolist())

    biases = [bias(seed) for seed in (0, 0, 1)]
    assert biases[0] == biases[1]
    assert all(one != other for one, other in zip(biases[0], biases[2], strict=True))
    assert torch.get_default_dtype() == torch.float32
    assert (random.getstate(), torch.get_rng_state().tolist()) == before
