"""The device that is used, and what a record says of the machine and the software."""

import pytest
import torch

from bench import environment
from bench.errors import UsageError
from tests.bench.builders import CPU


def test_environment_says_what_was_used():
    found = environment.describe(CPU)
    assert found["packages"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["command"]


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert environment.find_device("auto") == torch.device("cuda", 0)
    assert environment.find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"2 CUDA device\(s\)"):
        environment.find_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.find_device("auto") == CPU


@pytest.mark.parametrize("name", ["gpu", "tpu", "mps", "cuda:x", ""])
def test_unknown_device_is_refused_with_the_choices(name):
    with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
        environment.find_device(name)


def test_cuda_where_there_is_none_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device on this machine; use --device cpu"):
        environment.find_device("cuda")
