"""The device that is used."""

import pytest
import torch

from bench import environment
from bench.errors import UsageError
from tests.bench.builders import CPU


def test_device_is_found_or_the_choices_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert environment.find_device("auto") == torch.device("cuda", 0)
    assert environment.find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"2 CUDA device\(s\)"):
        environment.find_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.find_device("auto") == CPU
    with pytest.raises(UsageError, match="no CUDA device on this machine; use --device cpu"):
        environment.find_device("cuda")
    for name in ("gpu", "mps", "cuda:x", ""):
        with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
            environment.find_device(name)
