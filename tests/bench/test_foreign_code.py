"""What somebody names by package.module:Object is loaded without changing what others compute."""

import hashlib
import random
import sys

import numpy as np
import pytest
import torch

from bench import plugins
from models import NETWORKS
from solvers import GRADIENTS

USUAL = "from solvers import GRADIENTS\nMINE = GRADIENTS['anode']\n"

SETTINGS = {
    "torch.set_default_dtype(torch.float64)": torch.get_default_dtype,
    "torch.set_default_device('meta')": torch.get_default_device,
    "torch.use_deterministic_algorithms(True)": torch.are_deterministic_algorithms_enabled,
    "torch.set_num_threads(7)": torch.get_num_threads,
    "torch.set_float32_matmul_precision('medium')": torch.get_float32_matmul_precision,
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'": lambda: (
        torch.backends.mkldnn.matmul.fp32_precision
    ),
    "torch.backends.mkldnn.conv.fp32_precision = 'bf16'": lambda: (
        torch.backends.mkldnn.conv.fp32_precision
    ),
    "torch.backends.cuda.matmul.allow_tf32 ^= True": lambda: torch.backends.cuda.matmul.allow_tf32,
    "torch.backends.cudnn.allow_tf32 ^= True": lambda: torch.backends.cudnn.allow_tf32,
    "torch.backends.cudnn.benchmark ^= True": lambda: torch.backends.cudnn.benchmark,
    "torch.backends.mkldnn.enabled = False": lambda: torch.backends.mkldnn.enabled,
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
        made.append(name.replace("/", "."))
        return made[-1]

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_module_sets_for_all_is_put_back_once_it_is_loaded(setting, module):
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


def test_it_is_put_back_where_the_import_fails(module):
    name = module("import torch\ntorch.set_default_dtype(torch.float64)\n1 / 0")
    with pytest.raises(ValueError, match="division by zero"), plugins.resolving(f"{name}:MINE"):
        NETWORKS.resolve(f"{name}:MINE")
    assert torch.get_default_dtype() == torch.float32


def test_source_is_the_file_s_as_it_was_imported(module):
    name = module(USUAL)
    with plugins.resolving(f"{name}:MINE"):
        GRADIENTS.resolve(f"{name}:MINE")
    module("edited since\n")
    expected = hashlib.sha256(USUAL.encode()).hexdigest()
    specs = ("anode", "anode-revolve:m=2", f"{name}:MINE", f"{name}:MINE:m=2")
    assert plugins.sources(specs) == {f"{name}:MINE": expected}


def test_source_has_the_module_of_the_package_in_which_the_object_is_defined(module):
    inner = "class Mine:\n    solve = None\n"
    module(inner, "package_of_the_test/inner")
    outer = "from package_of_the_test.inner import Mine\nMINE = Mine()\n"
    module(outer, "package_of_the_test/__init__")
    expected = hashlib.sha256((outer + inner).encode()).hexdigest()
    try:
        assert plugins.sources(["package_of_the_test:MINE"]) == {
            "package_of_the_test:MINE": expected
        }
    finally:
        sys.modules.pop("package_of_the_test", None)
