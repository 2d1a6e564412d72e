"""The user's own code, named by package.module:Object, changes nothing in the runs beside it."""

import hashlib
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bench import plugins
from bench.commands import reproduce
from bench.training.network import build_network
from models import NETWORKS
from solvers import GRADIENTS
from tests.bench.builders import CPU, ONE_EPOCH, experiment, train

USUAL = "from solvers import GRADIENTS\nMINE = GRADIENTS['anode']\n"

SETTINGS = {
    "torch.set_default_dtype(torch.float64)": torch.get_default_dtype,
    "torch.set_default_device('meta')": torch.get_default_device,
    "torch.use_deterministic_algorithms(True)": torch.are_deterministic_algorithms_enabled,
    "torch.set_num_threads(7)": torch.get_num_threads,
    "torch.set_float32_matmul_precision('medium')": torch.get_float32_matmul_precision,
    **{
        f"torch.backends.{name} = {value}": lambda name=name: eval(f"torch.backends.{name}")
        for name, value in (
            ("mkldnn.matmul.fp32_precision", "'bf16'"),
            ("mkldnn.conv.fp32_precision", "'bf16'"),
            ("cuda.matmul.allow_tf32", "not torch.backends.cuda.matmul.allow_tf32"),
            ("cudnn.allow_tf32", "not torch.backends.cudnn.allow_tf32"),
            ("cudnn.benchmark", "not torch.backends.cudnn.benchmark"),
            ("mkldnn.enabled", "False"),
        )
    },
    "torch.set_grad_enabled(False)": torch.is_grad_enabled,
    "torch.set_autocast_enabled('cpu', True)": lambda: torch.is_autocast_enabled("cpu"),
    "torch.set_flush_denormal(True)": lambda: float(torch.tensor(1e-30) * 1e-10),
    "torch.manual_seed(1)": lambda: torch.get_rng_state().tolist(),
    "import random; random.seed(1)": random.getstate,
    "import numpy; numpy.random.seed(1)": lambda: np.random.get_state()[1].tolist(),
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Call it with a source; it is a module then, and its name is returned."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(source, name="mine_of_the_test"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
        made.append(name.replace("/", ".").removesuffix(".__init__"))
        return made[-1]

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("setting", SETTINGS)
def test_global_settings_of_a_module_are_reset_once_it_is_loaded(setting, module):
    before = SETTINGS[setting]()
    with plugins.state_kept():
        exec(f"import torch\n{setting}")
        assert SETTINGS[setting]() != before, "it shows"
    assert SETTINGS[setting]() == before
    name = module(f"import torch\n{setting}\n{USUAL}")
    with plugins.resolving(f"{name}:MINE"):
        assert GRADIENTS.resolve(f"{name}:MINE") is GRADIENTS["anode"]
    assert SETTINGS[setting]() == before
    # PyTorch has two interfaces for some, and raises where they were mixed.
    assert torch.get_float32_matmul_precision() == "highest"


def test_global_settings_are_reset_where_the_import_fails(module):
    name = module("import torch\ntorch.set_default_dtype(torch.float64)\n1 / 0")
    with pytest.raises(ValueError, match="division by zero"), plugins.resolving(f"{name}:MINE"):
        NETWORKS.resolve(f"{name}:MINE")
    assert torch.get_default_dtype() == torch.float32


def test_runs_beside_a_module_that_changes_settings_are_those_without_it(tmp_path, module):
    before = train(tmp_path, **ONE_EPOCH)
    settings = "\n".join(setting for setting in SETTINGS if setting.startswith("torch.set_"))
    own = module(f"import torch\n{settings}\ntorch.manual_seed(7)\n{USUAL}")
    beside = train(tmp_path, **ONE_EPOCH, gradient=f"{own}:MINE")
    assert before.status == beside.status == "ok"
    assert reproduce.differences(before, beside) == []
    assert reproduce.differences(before, train(tmp_path, **ONE_EPOCH)) == []


def draws(ode_block, num_classes):
    """A network that is initialised with Python's and numpy's random numbers, and is careless."""
    torch.set_default_dtype(torch.float64)
    layer = nn.Linear(1, 2, dtype=torch.float32)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([random.random(), np.random.rand()]))
    return layer


def test_seed_fixes_all_random_numbers_of_a_network_and_nothing_beside_it():
    before = random.getstate(), torch.get_rng_state().tolist()
    one, same, other = (
        build_network(experiment(network=f"{__name__}:draws", seed=seed), CPU).bias.tolist()
        for seed in (0, 0, 1)
    )
    assert one == same
    assert all(a != b for a, b in zip(one, other, strict=True))
    assert torch.get_default_dtype() == torch.float32
    assert (random.getstate(), torch.get_rng_state().tolist()) == before


def test_source_is_that_of_the_imported_file_and_of_the_modules_of_its_package(module):
    name = module(USUAL)
    with plugins.resolving(f"{name}:MINE"):
        GRADIENTS.resolve(f"{name}:MINE")
    module("edited since\n")
    inner, outer = "class Mine:\n    solve = None\n", "from own.inner import Mine\nMINE = Mine()\n"
    module(inner, "own/inner")
    module(outer, "own/__init__")
    found = plugins.sources(("anode", "anode-revolve:m=2", f"{name}:MINE:m=2", "own:MINE"))
    assert found == {
        f"{name}:MINE": hashlib.sha256(USUAL.encode()).hexdigest(),
        "own:MINE": hashlib.sha256((outer + inner).encode()).hexdigest(),
    }
