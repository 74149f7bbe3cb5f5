"""The vision transformer of DINOv2, as far as its features need it, with weights from a file of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.evaluation.features import StagedNetwork

SIDE = 224
"""Side to which images are resized."""
_HEAD = 64  # channels of an attention head, in every size of the model
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
_FROM_TRANSFORMERS = (
    (r"^(dinov2\.)?embeddings\.cls_token$", "cls_token"),
    (r"^(dinov2\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(dinov2\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(dinov2\.)?encoder\.layer\.(\d+)\.", r"blocks.\2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"^(dinov2\.)?layernorm\.", "norm."),
)


@final
class Block(nn.Module):
    """Attention and a perceptron, each after a norm, scaled by channel and added.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.ones(dim)}) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, n, d = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).view(b, n, 3, d // _HEAD, _HEAD).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.ls1["gamma"] * self.attn["proj"](attended)
        return x + self.ls2["gamma"] * self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


@final
class VisionTransformerFeatures(StagedNetwork):
    """The normalised class token of a vision transformer, of images of any size, grey or RGB.

    Args:
        weights: Weights under the names of ``timm`` or of ``transformers``.

    Raises:
        ValueError: If they are not those of such a network.

    References:
        Dosovitskiy et al. 2021, arXiv 2010.11929, equations 1 to 4; Oquab et al. 2024, arXiv 2304.07193 (DINOv2).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        weights = as_timm(weights)
        lacking = [k for k in ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight") if k not in weights]
        depth = 1 + max((int(key.split(".")[1]) for key in weights if key.startswith("blocks.")), default=-1)
        if lacking or not depth or "blocks.0.mlp.fc1.weight" not in weights:
            raise ValueError("these are not the weights of DINOv2 (S, B or L) as timm or transformers have them")
        dim, channels, self.patch, _ = weights["patch_embed.proj.weight"].shape
        if channels != len(_MEAN) or dim % _HEAD:
            raise ValueError(
                f"a DINOv2 has 3 channels and a width of {_HEAD} times its heads, got {channels} and {dim}"
            )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, dim, self.patch, self.patch)})
        registers = weights.get("reg_token")
        self.reg_token = nn.Parameter(torch.zeros(1, 0 if registers is None else registers.shape[1], dim))
        self.blocks = nn.ModuleList(Block(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pos_embed = nn.Parameter(_positions(weights["pos_embed"], SIDE // self.patch))
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)
        known = {key: value.float() for key, value in weights.items() if key in self.state_dict()}
        known["pos_embed"] = self.pos_embed.detach()
        known.setdefault("reg_token", self.reg_token.detach())
        try:
            self.load_state_dict(known)
        except RuntimeError as error:
            raise ValueError(f"the weights do not fit a DINOv2: {' '.join(str(error).split())[:200]}") from error

    def _tokens(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        x = images.float().expand(-1, 3, -1, -1)
        x = nn.functional.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        x = ((x.clamp(-1, 1) + 1) / 2 - self.mean) / self.deviation
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        # Registers have no position and stand behind the class token.
        return torch.cat([x[:, :1], self.reg_token.expand(len(x), -1, -1), x[:, 1:]], dim=1)

    def stages(self, signals: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The patches behind each quarter of the blocks."""
        x, found, side = self._tokens(signals), [], SIDE // self.patch
        quarter = max(len(self.blocks) // 4, 1)
        for i, block in enumerate(self.blocks, 1):
            x = block(x)
            if i % quarter == 0:
                patches = x[:, 1 + self.reg_token.shape[1] :]
                found.append(patches.transpose(1, 2).unflatten(2, (side, side)))
        return found

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1]."""
        x = self._tokens(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])


def as_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of ``timm``, from those or from the names of ``transformers``."""
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        for pattern, replacement in _FROM_TRANSFORMERS:
            key = re.sub(pattern, replacement, key)
        key = key.replace("embeddings.register_tokens", "reg_token")
        renamed[key] = value
    for key in [key for key in renamed if ".attention.attention.query." in key]:
        parts = [renamed.pop(key.replace("query", part)) for part in ("query", "key", "value")]
        renamed[key.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return renamed


def _positions(table: Float[Tensor, "1 n d"], side: int) -> Float[Tensor, "1 m d"]:
    """Position embeddings for a grid of another size: resized, save that of the class token."""
    token, grid = table[:, :1].float(), table[:, 1:].float()
    old = round(grid.shape[1] ** 0.5)
    if old * old != grid.shape[1]:
        raise ValueError(f"the position embeddings of {grid.shape[1]} patches are not those of a square")
    grid = grid.transpose(1, 2).unflatten(2, (old, old))
    grid = nn.functional.interpolate(grid, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)
