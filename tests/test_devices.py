"""Devices by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unistep.devices import device_of, find_device
from unistep.hub import load


def test_a_device_by_name() -> None:
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device must be cpu, cuda or cuda:N, got 'gpu'"),
        ("cdua", "got 'cdua'; did you mean 'cuda'"),
        ("cuda:x", "device must be cpu, cuda or cuda:N, got 'cuda:x'"),
        (None, "device must be cpu, cuda or cuda:N, got None"),
    ],
)
def test_what_is_no_device_is_named(name, message: str) -> None:
    for find in (find_device, lambda device: load("fashion", device=device)):
        with pytest.raises(ValueError, match=message) as caught:
            find(name)
        assert "\n" not in str(caught.value)


def test_a_gpu_that_is_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device cuda:1 was asked for, and PyTorch sees no GPU; use cpu"):
        find_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert find_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match="device cuda:1 was asked for, and PyTorch sees 1 GPU; use cpu"):
        find_device("cuda:1")


def test_a_modules_device_is_that_of_its_first_parameter():
    inner = nn.Sequential(nn.ReLU(), nn.Linear(2, 2, bias=False, device="meta"))
    deep = nn.Sequential(nn.Identity(), inner, nn.Linear(1, 1))
    assert device_of(deep) == next(deep.parameters()).device == torch.device("meta")
    deep.register_parameter("none", None)
    deep.register_parameter("own", nn.Parameter(torch.zeros(1)))
    assert device_of(deep) == next(deep.parameters()).device == torch.device("cpu")
    assert device_of(nn.Sequential(nn.Identity())) == torch.empty(0).device
