from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unistep.evaluation import load_features
from unistep.evaluation.vision_transformer import VisionTransformerFeatures
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality

DIM, DEPTH, PATCH = 64, 2, 56
IMAGES = ImageModality(size=8, channels=1)


def weights(side: int = 4, registers: int = 0) -> dict[str, Tensor]:
    """Random weights of a small model under timm's names, without the scales of the branches (which are 1)."""
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return 0.1 * torch.randn(shape, generator=generator)

    found = {
        "cls_token": some(1, 1, DIM),
        "pos_embed": some(1, 1 + side * side, DIM),
        "patch_embed.proj.weight": some(DIM, 3, PATCH, PATCH) / 10,
        "patch_embed.proj.bias": some(DIM),
        "norm.weight": 1 + some(DIM),
        "norm.bias": some(DIM),
    }
    for i in range(DEPTH):
        for name, shape in (("attn.qkv", (3 * DIM, DIM)), ("attn.proj", (DIM, DIM)), ("mlp.fc1", (4 * DIM, DIM))):
            found |= {f"blocks.{i}.{name}.weight": some(*shape), f"blocks.{i}.{name}.bias": some(shape[0])}
        found |= {f"blocks.{i}.mlp.fc2.weight": some(DIM, 4 * DIM), f"blocks.{i}.mlp.fc2.bias": some(DIM)}
        for name in ("norm1", "norm2"):
            found |= {f"blocks.{i}.{name}.weight": 1 + some(DIM), f"blocks.{i}.{name}.bias": some(DIM)}
        found |= {f"blocks.{i}.ls{n}.gamma": torch.ones(DIM) for n in (1, 2)}
    return found | ({"reg_token": some(1, registers, DIM)} if registers else {})


def as_transformers(timm: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under the names that ``transformers`` has."""
    found: dict[str, Tensor] = {"embeddings.mask_token": torch.zeros(1, DIM)}
    names = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    for key, value in timm.items():
        if ".attn.qkv." in key:
            block, kind = key.split(".")[1], key.rsplit(".", 1)[1]
            for part, each in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"encoder.layer.{block}.attention.attention.{part}.{kind}"] = each
            continue
        new = names.get(key, key)
        for old, other in (
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("blocks.", "encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("ls1.gamma", "layer_scale1.lambda1"),
            ("ls2.gamma", "layer_scale2.lambda1"),
        ):
            new = new.replace(old, other)
        found["layernorm." + key.removeprefix("norm.") if key.startswith("norm.") else new] = value
    return found


def reference(timm: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """The class token behind PyTorch's own encoder layers."""
    x = tokens
    for i in range(DEPTH):
        layer = nn.TransformerEncoderLayer(
            DIM,
            DIM // 64,
            4 * DIM,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
            layer_norm_eps=1e-6,
        ).eval()
        own = {
            "self_attn.in_proj_": "attn.qkv.",
            "self_attn.out_proj.": "attn.proj.",
            "linear1.": "mlp.fc1.",
            "linear2.": "mlp.fc2.",
            "norm1.": "norm1.",
            "norm2.": "norm2.",
        }
        layer.load_state_dict(
            {f"{a}{kind}": timm[f"blocks.{i}.{b}{kind}"] for a, b in own.items() for kind in ("weight", "bias")}
        )
        x = layer(x)
    return nn.functional.layer_norm(x[:, 0], (DIM,), timm["norm.weight"], timm["norm.bias"], 1e-6)


@torch.no_grad()
def test_it_agrees_with_pytorchs_encoder() -> None:
    timm = weights()
    network = VisionTransformerFeatures(timm).eval()
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean, deviation = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    scaled = ((x + 1) / 2 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    patches = nn.functional.conv2d(scaled, timm["patch_embed.proj.weight"], timm["patch_embed.proj.bias"], stride=PATCH)
    tokens = torch.cat([timm["cls_token"].expand(2, -1, -1), patches.flatten(2).transpose(1, 2)], 1) + timm["pos_embed"]
    torch.testing.assert_close(network(x), reference(timm, tokens), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_both_ways_of_naming_weights_are_the_same_network(tmp_path: Path) -> None:
    timm = weights()
    save_file(timm, tmp_path / "timm.safetensors")
    save_file({k: v.contiguous() for k, v in as_transformers(timm).items()}, tmp_path / "transformers.safetensors")
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    one, other = (load_features(f"dinov2:{tmp_path / n}.safetensors", IMAGES) for n in ("timm", "transformers"))
    assert (one.name, one.version, one.dim) == ("dinov2", "2x64", DIM)
    assert torch.equal(one(x), other(x))
    assert one.hash == other.hash
    assert [tuple(stage.shape) for stage in one.stages(x)] == [(2, DIM, 4, 4)] * 2


def test_positions_of_another_grid_are_resized_and_registers_stand_apart() -> None:
    larger = VisionTransformerFeatures(weights(side=7, registers=3)).eval()
    assert larger.pos_embed.shape == (1, 17, DIM)
    assert larger(torch.zeros(1, 1, 8, 8)).shape == (1, DIM)
    assert larger.stages(torch.zeros(1, 1, 8, 8))[-1].shape == (1, DIM, 4, 4)


def test_what_is_no_dinov2_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="not the weights of DINOv2"):
        load_features(f"dinov2:{file}", IMAGES)
    save_file({k: v for k, v in weights().items() if "fc2" not in k}, file)
    with pytest.raises(ValueError, match="the weights do not fit"):
        load_features(f"dinov2:{file}", IMAGES)
    file.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="as safetensors"):
        load_features(f"dinov2:{file}", IMAGES)
    with pytest.raises(ValueError, match="'dinov2' need images, and these are sounds"):
        load_features(f"dinov2:{file}", AudioModality())
    with pytest.raises(ValueError, match="needs the weights of DINOv2"):
        load_features("dinov2:missing", IMAGES)
