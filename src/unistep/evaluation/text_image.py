"""Networks that tell whether an image fits a text, and how often they find an image's own text among others."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unistep.core.values import Tokens
from unistep.evaluation.conv_trunk import ConvNorm
from unistep.files import check_readable, replacing_folder

TEXT_IMAGE_FORMAT = "unistep-text-image"
"""Mark of the ``config.json`` of a saved network."""
_ROUNDING = 1e-5
"""Vectors of one text may differ by so much, as they may come from different batches."""
_SHIPPED = {"emoji-text": Path(__file__).parent.parent / "zoo" / "features" / "emoji-text-v1"}


@final
class TextImageNetwork(nn.Module):
    """Brings images and texts to unit vectors that are close where they belong together.

    Convolutions for the image; of the text the one vector that its encoder makes of the whole.

    Args:
        in_channels: Channels of the images.
        size: Height and width of the images.
        channels: Width of each stage; each halves the resolution.
        text_dim: Features of the encoder's vectors.
        dim: Features of the common space.

    References:
        Radford et al. 2021, arXiv 2103.00020, section 2.3.
    """

    def __init__(self, *, in_channels: int, size: int, channels: tuple[int, ...], text_dim: int, dim: int) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "in_channels": in_channels,
            "size": size,
            "channels": list(channels),
            "text_dim": text_dim,
            "dim": dim,
        }
        self.shape = (in_channels, size, size)
        layers: list[nn.Module] = []
        last = in_channels
        for width in channels:
            layers += [ConvNorm(last, width, stride=2), ConvNorm(width, width, stride=1)]
            last, size = width, (size + 1) // 2
        self.trunk = nn.Sequential(*layers)
        self.image = nn.Linear(last * size * size, dim)
        self.text = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b dim"]:
        """Features of images in [-1, 1], before they become unit vectors."""
        return self.image(self.trunk(images).flatten(1))

    def embed_images(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b dim"]:
        """Unit vectors of images in [-1, 1]."""
        return F.normalize(self(images), dim=1)

    def embed_texts(self, vectors: Float[Tensor, "b text_dim"]) -> Float[Tensor, "b dim"]:
        """Unit vectors of texts, from the first vector that the encoder made of each."""
        return F.normalize(self.text(vectors), dim=1)

    def loss(self, images: Float[Tensor, "b c h w"], vectors: Float[Tensor, "b text_dim"]) -> Float[Tensor, ""]:
        """Cross-entropy of finding each image's text among those of the batch, and each text's image."""
        logits = self.log_scale.exp() * self.embed_images(images) @ self.embed_texts(vectors).T
        own = torch.arange(len(images), device=logits.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def sentence(texts: Tokens) -> Float[Tensor, "b text_dim"]:
    """The encoder's vector for the whole of each text."""
    return texts.tokens[:, 0]


def found_among(
    images: Float[Tensor, "b dim"],
    own: Int[Tensor, " b"],
    texts: Float[Tensor, "n dim"],
    generator: torch.Generator,
    choices: int = 20,
) -> Float[Tensor, " b"]:
    """Whether each image is closer to its own text than to others that are drawn at random; 1 or 0.

    The same text of another item is no other text.

    Args:
        images: Unit vectors of images.
        own: Position of each image's own text.
        texts: Unit vectors of all texts, of which at least ``choices`` differ.
        generator: Draws the others.
        choices: Number of texts, the own one among them.

    Raises:
        ValueError: If there are too few texts.
    """
    if len(texts) < choices:
        raise ValueError(f"choosing among {choices} texts needs as many, got {len(texts)}")
    closeness = images @ texts.T
    mine = closeness.gather(1, own[:, None])
    found = []
    for row, text in enumerate(own.tolist()):
        others = torch.randperm(len(texts) - 1, generator=generator)
        others = others + (others >= text)
        others = others[(texts[others] - texts[text]).abs().amax(dim=1) > _ROUNDING][: choices - 1]
        if len(others) < choices - 1:
            raise ValueError(f"choosing among {choices} texts needs as many that differ, got {len(others) + 1}")
        found.append((closeness[row, others] < mine[row]).all())
    return torch.stack(found).float()


def load_text_image(name: str) -> TextImageNetwork:
    """A network by name, frozen: one that ships, or a folder.

    Raises:
        ValueError: If there is none, or its files do not fit.
    """
    from safetensors.torch import load_file

    folder = _SHIPPED.get(name, Path(name))
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"no text-image network {name!r}; give one of {', '.join(_SHIPPED)}, or a folder of one")
    check_readable(config)
    described = json.loads(config.read_text(encoding="utf-8"))
    if described.get("format") != TEXT_IMAGE_FORMAT:
        raise ValueError(f"{folder} is not a text-image network: its format is {described.get('format')!r}")
    architecture = dict(described["architecture"])
    network = TextImageNetwork(**{**architecture, "channels": tuple(architecture["channels"])})
    network.load_state_dict({key: value.float() for key, value in load_file(folder / "model.safetensors").items()})
    return network.eval().requires_grad_(False)


def save_text_image(network: TextImageNetwork, folder: Path, card: str) -> None:
    """Write a network in half precision, with its card."""
    from safetensors.torch import save_file

    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    with replacing_folder(folder) as staged:
        save_file(weights, staged / "model.safetensors")
        described = {"format": TEXT_IMAGE_FORMAT, "architecture": network.architecture}
        (staged / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        (staged / "README.md").write_text(card, encoding="utf-8")
