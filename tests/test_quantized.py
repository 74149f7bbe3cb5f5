"""Weights in a few bits a value: what they lose follows from their steps, and a damaged file is refused in a line."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from unistep.core.condition import LabelField
from unistep.generation.model_config import ModelConfig
from unistep.hub import load, save
from unistep.hub.adapters import base_hash
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.quantized import BITS, DESCRIPTION, quantize, restore, with_feedback
from unistep.weights import read_weights, summarize_weights, weights_hash, write_weights

CONFIG = ModelConfig(
    kind="consistency",
    network=UNetConfig(widths=(16, 32), blocks=(1, 1), embedding_dim=32, head_dim=16, num_classes=3, channels=1),
    modality=ImageModality(size=8, channels=1),
    fields={"label": LabelField(size=3, names=("a", "b", "c"))},
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network_weights() -> dict[str, Tensor]:
    """The state of a small network, without the zeros that it starts with."""
    state = CONFIG.build().net.state_dict()
    return {name: value + 0.1 * gaussian(*value.shape, seed=i) for i, (name, value) in enumerate(state.items())}


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {
        "kernel": gaussian(32, 24, 3, 3),
        "matrix": gaussian(64, 48, seed=1) * torch.logspace(-9, 3, 64)[:, None],
        "spiked": torch.cat([gaussian(1, 2000) * 1e-6, torch.tensor([[1000.0]])], dim=1),
        "zeros": torch.zeros(40, 40),
        "long": gaussian(2, 16, 40, seed=2).double(),
        "bias": gaussian(5000, seed=3),
        "small": gaussian(8, 8, seed=4),
        "count": torch.arange(6).view(2, 3),
    }


@pytest.mark.parametrize("bits", BITS)
def test_no_value_moves_by_a_step_nor_a_kernel_by_half_of_one(tensors: dict[str, Tensor], bits: int) -> None:
    entries, metadata = quantize(tensors, bits)
    restored = restore(entries, metadata)
    assert restored.keys() == tensors.keys()
    for name in ("kernel", "matrix", "spiked", "zeros", "long"):
        value = tensors[name].double()
        steps = entries[f"steps/{name}"].double()[:, None, None]
        error = (restored[name].double() - value).reshape(value.shape[0], value.shape[1], -1)
        # What is restored is an exact multiple; the bounds have room for the rounding of sums in float64 alone.
        assert (error.abs() <= steps * (1 if value.ndim > 2 else 0.5) + 1e-12 * value.abs().max()).all()
        assert (error.sum(dim=-1, keepdim=True).abs() <= 0.5 * steps + 1e-12 * value.abs().max()).all()
        assert restored[name].dtype == torch.float32
    for name in ("bias", "small"):
        assert torch.equal(restored[name], tensors[name].half())
    assert torch.equal(restored["count"], tensors["count"])


def test_a_row_has_a_step_of_its_own_and_a_spike_keeps_it(tensors: dict[str, Tensor]) -> None:
    entries, metadata = quantize(tensors, 6)
    restored = restore(entries, metadata)
    error = (restored["matrix"] - tensors["matrix"]).norm(dim=1) / tensors["matrix"].norm(dim=1)
    assert float(error.max()) < 0.05  # rows of 1e-9 as well as rows of 1e3
    assert float(restored["spiked"][0, -1]) == pytest.approx(1000, rel=1e-3)


@pytest.mark.parametrize("spike", [0.37, -2.9])
def test_a_spike_among_zeros_is_not_cut_off(spike: float) -> None:
    """Its row lies on multiples of the step, so that another one is taken, in which the spike is not too many."""
    row = torch.zeros(1, 4096)
    row[0, 7] = spike
    found = restore(*quantize({"row": row, "large": torch.randn(2048, 2048)}, 8))["row"]
    assert float(found[0, 7]) == pytest.approx(spike, rel=1e-2)
    assert found.count_nonzero() == 1


def test_steps_grow_with_the_root_of_the_size() -> None:
    row = gaussian(1, 64)
    same = {"small": row.repeat(64, 1), "large": row.repeat(1024, 1)}  # all rows have the same root mean square
    entries, _ = quantize(same, 6)
    assert torch.equal(entries["steps/large"][:64], 4 * entries["steps/small"])


@pytest.mark.parametrize("bits", BITS)
def test_a_gaussian_takes_the_bits_that_were_asked_for(tmp_path: Path, bits: int) -> None:
    weights = {
        "first": gaussian(32, 64, 3, 3),
        "second": gaussian(256, 512, seed=1),
        "third": gaussian(128, 64, seed=2),
    }
    write_weights(weights, tmp_path / "w.safetensors", bits=bits)
    values = sum(value.numel() for value in weights.values())
    taken = 8 * (tmp_path / "w.safetensors").stat().st_size / values
    # Its entropy in steps is the least; beyond a byte's range, which 8 bits leave often, a value costs a quarter more.
    assert bits - 0.25 < taken < bits + (0.35 if bits == 8 else 0.1)


def test_what_was_learned_after_a_rounding_is_not_rounded_away() -> None:
    weight = gaussian(64, 4_096)
    once = restore(*quantize({"w": weight}, 7))["w"]
    step = quantize({"w": weight}, 7)[0]["steps/w"].float()[:, None]
    learned = 0.15 * step * gaussian(64, 4_096, seed=1)  # well within half a step
    again = restore(*quantize({"w": once + learned}, 7))["w"]
    kept = float(((again - once) * learned).sum() / learned.square().sum())
    assert 0.8 < kept < 1.2, kept  # 0 where every value goes back
    assert (again - once - learned).abs().max() <= 0.51 * step.max()


@pytest.mark.parametrize("bits", BITS)
def test_rounded_weights_are_written_as_they_are(tensors: dict[str, Tensor], bits: int) -> None:
    once = restore(*quantize(tensors, bits))
    again = restore(*quantize(once, bits))
    assert all(torch.equal(again[name], value) for name, value in once.items())


def test_feedback_changes_the_fewest_and_leaves_single_values_alone() -> None:
    exact = 3 * gaussian(200, 9).double()
    rounded = exact.round()
    changed = with_feedback(exact, rounded)
    excess = (rounded - exact).sum(dim=1)
    assert torch.equal((changed - rounded).abs().sum(dim=1), excess.round().abs())
    assert (changed - exact).sum(dim=1).abs().max() <= 0.5 + 1e-12
    assert (changed - exact).abs().max() < 1
    assert torch.equal(with_feedback(exact[..., None], rounded[..., None]), rounded[..., None])


def test_a_convolution_of_a_flat_image_moves_as_little_as_one_of_single_values() -> None:
    kernel, x = gaussian(8, 16, 3, 3), gaussian(1, 16, 1, 1, seed=1).expand(1, 16, 5, 5)
    entries, metadata = quantize({"kernel": kernel}, 5)
    error = (F.conv2d(x, restore(entries, metadata)["kernel"]) - F.conv2d(x, kernel)).abs().amax(dim=(0, 2, 3))
    bound = x[0, :, 0, 0].abs().sum() * entries["steps/kernel"].float() / 2
    assert (error <= bound + 144 * 2**-23 * kernel.abs().max() * x.abs().max()).all()


def test_samples_agree_better_with_every_bit(tmp_path: Path) -> None:
    weights = network_weights()
    save(CONFIG, weights, tmp_path / "exact", "")
    exact = load(tmp_path / "exact").sample(8, seed=0)
    error = {}
    for bits in (4, 6, 8):
        save(CONFIG, weights, tmp_path / str(bits), "", bits=bits)
        error[bits] = float((load(tmp_path / str(bits)).sample(8, seed=0) - exact).norm())
    assert error[8] > 0
    # Two bits are a fourth of the step; samples follow weights linearly as long as the steps are small.
    assert 2 < error[6] / error[8] < 8
    assert 2 < error[4] / error[6] < 8


@pytest.mark.parametrize("bits", [32, 16, 7])
def test_a_model_is_read_the_same_each_time_and_described(tmp_path: Path, bits: int) -> None:
    weights = network_weights()
    save(CONFIG, weights, tmp_path / "m", "", bits=bits)
    file = tmp_path / "m" / "model.safetensors"
    first, second = load(tmp_path / "m"), load(tmp_path / "m")
    assert base_hash(first) == base_hash(second)
    assert weights_hash(read_weights(file)) == weights_hash(read_weights(file))
    assert all(value.dtype == torch.float32 for value in first.map.net.state_dict().values())
    summary = summarize_weights(file)
    assert summary.parameters == sum(value.numel() for value in weights.values())
    assert summary.precision == {32: "float32", 16: "float16", 7: "7 bits a value"}[bits]


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_weights({"kernel": gaussian(32, 24, 3, 3)}, path, bits=6)
    content = bytearray(path.read_bytes())
    content[-300] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: its tensors do not fit the checksum"):
        read_weights(path)


def _description(**changed: object) -> dict[str, str]:
    found = {"version": 1, "bits": 6, "shapes": {"kernel": [32, 24, 3, 3]}, **changed}
    return {DESCRIPTION: json.dumps(found)}


@pytest.mark.parametrize(
    ("metadata", "changed", "message"),
    [
        (_description(shapes={"kernel": [32, 24, 3, 4]}), {}, "are not those of 9,216 values"),
        (_description(shapes={"kernel": [32, 12, 3, 3]}), {}, "are not those of 3,456 values"),
        (_description(shapes={"kernel": [24, 32, 3, 3]}), {}, "the codes or steps of 'kernel' are missing"),
        (_description(shapes={"other\nname": [32, 24]}), {}, r"the codes or steps of 'other\\nname' are missing"),
        (_description(shapes={"kernel": [32, -24]}), {}, r"the shape of 'kernel' is \[32, -24\]"),
        (_description(shapes=[1]), {}, "does not list bits and shapes"),
        (_description(bits=3), {}, "does not list bits and shapes"),
        (_description(version=2), {}, "coded in version 2, this Unistep reads version 1"),
        ({DESCRIPTION: "7 bits"}, {}, "is not a readable safetensors file"),
        (_description(), {"codes/kernel": torch.zeros(30, dtype=torch.uint8)}, "codes of 'kernel' are damaged"),
        (_description(), {"codes/kernel": torch.zeros(30)}, "the codes or steps of 'kernel' are missing"),
        (_description(), {"steps/kernel": torch.zeros(31)}, "the codes or steps of 'kernel' are missing"),
    ],
)
def test_entries_that_do_not_fit_are_one_line(
    tmp_path: Path, metadata: dict[str, str], changed: dict[str, Tensor], message: str
) -> None:
    path = tmp_path / "w.safetensors"
    entries, _ = quantize({"kernel": gaussian(32, 24, 3, 3)}, 6)
    save_file({**entries, **changed}, path, metadata=metadata)  # without a checksum, as another program may write it
    with pytest.raises(ValueError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_codes_of_more_values_than_are_named_are_not_unpacked() -> None:
    entries, _ = quantize({"kernel": gaussian(2, 1024)}, 6)
    entries["codes/kernel"] = torch.frombuffer(bytearray(zlib.compress(b"\1" + bytes(1 << 20))), dtype=torch.uint8)
    with pytest.raises(ValueError, match="are not those of 2,048 values"):
        restore(entries, _description(shapes={"kernel": [2, 1024]}))


@pytest.mark.parametrize(
    ("value", "bits", "message"),
    [
        (torch.full((40, 40), torch.inf), 7, "layer has values that are not finite"),
        (torch.full((40, 40), torch.nan), 4, "layer has values that are not finite"),
        (torch.full((5,), 7e4), 7, "layer has a value of 70000, which half precision cannot hold; store it in 32 bits"),
        (torch.full((40, 40), 7e4), 16, "layer has a value of 70000, which half precision cannot hold"),
        (torch.ones(5), 12, re.escape("bits must be from 4 to 8, 16 (half precision) or 32 (exact), got 12")),
    ],
)
def test_what_cannot_be_stored_is_one_line(tmp_path: Path, value: Tensor, bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_weights({"layer": value}, tmp_path / "w.safetensors", bits=bits)
    assert list(tmp_path.iterdir()) == []


def test_large_weights_are_no_problem_where_they_are_coded(tmp_path: Path) -> None:
    weights = {"layer": 1e6 * gaussian(40, 40)}
    write_weights(weights, tmp_path / "w.safetensors", bits=8)
    assert {"codes/layer", "steps/layer"} == load_file(tmp_path / "w.safetensors").keys()
    error = (read_weights(tmp_path / "w.safetensors")["layer"] - weights["layer"]).norm() / weights["layer"].norm()
    assert float(error) < 0.01
