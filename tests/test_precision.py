"""Which arithmetic is chosen on which hardware; samples and steps in bfloat16."""

from __future__ import annotations

import pytest
import torch

from unistep.hub.load import load
from unistep.precision import autocast, has_fast_bf16, memory_layout, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("amx", "avx512", "fast"), [(True, False, True), (False, True, True), (False, False, False)])
def test_processors_with_bf16_units(amx: bool, avx512: bool, fast: bool, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert has_fast_bf16(CPU) is fast
    assert resolve_precision("auto", CPU) == ("bf16" if fast else "fp32")


def test_no_answer_is_no(monkeypatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert has_fast_bf16(CPU) is False
    assert has_fast_bf16(torch.device("mps")) is False


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_from_ampere_on(capability: tuple[int, int], fast: bool, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bf16(CUDA) is fast


def test_a_choice_is_respected() -> None:
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    with autocast("bf16", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown precision 'bf61'; did you mean 'bf16'"):
        resolve_precision("bf61", CPU)  # type: ignore[arg-type]


def test_the_layout_follows_the_arithmetic() -> None:
    assert memory_layout("fp32", CPU) == memory_layout("bf16", CUDA) == torch.channels_last
    assert memory_layout("bf16", CPU) == torch.contiguous_format


def test_samples_in_bf16_are_close_and_say_so() -> None:
    exact, fast = load("fashion"), load("fashion", precision="bf16")
    assert (exact.precision, fast.precision) == ("fp32", "bf16")
    a, b = (g.sample(4, seed=3, label=1) for g in (exact, fast))
    assert b.dtype == torch.float32
    assert 0 < (a - b).square().mean().sqrt() < 0.03
    assert torch.equal(fast.to("cpu", "fp32").sample(4, seed=3, label=1), a)
