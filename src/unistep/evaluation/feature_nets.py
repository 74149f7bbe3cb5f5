"""The networks behind the feature networks that Unistep itself can build: a small classifier, pixels, InceptionV3."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.evaluation.conv_trunk import ConvTrunk
from unistep.evaluation.features import StagedNetwork

_PROJECTED = 64


@final
class ConvFeatures(StagedNetwork):
    """A small convolutional classifier whose penultimate layer serves as features.

    Three stages of two 3x3 convolutions at falling resolution, then one linear layer to ``dim`` features; unlike
    global pooling it keeps *where* things are, so that a sleeve in the wrong place costs something.

    Args:
        in_channels: Channels of the images.
        size: Height and width of the images.
        channels: Width of each stage.
        dim: Number of features.
        classes: Number of classes of the head that it is trained with.
    """

    def __init__(self, *, in_channels: int, size: int, channels: tuple[int, ...], dim: int, classes: int) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = (in_channels, size, size)
        self.architecture: dict[str, Any] = {
            "in_channels": in_channels,
            "size": size,
            "channels": list(channels),
            "dim": dim,
            "classes": classes,
        }
        self.trunk = ConvTrunk(in_channels, (size, size), channels)
        self.project = nn.Linear(self.trunk.size, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b dim"]:
        """Features of images in [-1, 1]."""
        return nn.functional.silu(self.norm(self.project(self.trunk(images).flatten(1))))

    def stages(self, signals: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps of the three stages."""
        return self.trunk.stages(signals)

    def logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Class scores, for training and for the accuracy that the card states."""
        return self.head(self.drop(self(images)))


@final
class PixelFeatures(nn.Module):
    """Raw pixels on fixed random orthonormal directions: a cross-check that no learned weight can flatter.

    Args:
        shape: Image shape ``(c, h, w)``.
        dim: Largest number of directions.
    """

    directions: Tensor

    def __init__(self, shape: tuple[int, ...], dim: int = _PROJECTED) -> None:
        super().__init__()
        size = math.prod(shape)
        random = torch.randn(size, min(dim, size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("directions", torch.linalg.qr(random).Q.float())

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b dim"]:
        """Coordinates of images in [-1, 1]."""
        return images.flatten(1).float() @ self.directions


@final
class InceptionFeatures(nn.Module):
    """Preprocessing for InceptionV3 as FID uses it: grey to RGB, [-1, 1] to bytes; the network resizes to 299.

    Args:
        network: torch-fidelity's extractor, or the TorchScript file that StyleGAN's authors publish.
        scripted: Whether it is the latter, which takes ``return_features``.
    """

    def __init__(self, network: nn.Module, *, scripted: bool) -> None:
        super().__init__()
        self.inner, self.scripted = network, scripted

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2048"]:
        """The 2048 pooled features of images in [-1, 1]."""
        pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        if self.scripted:
            return self.inner(pixels, return_features=True)
        answer = self.inner(pixels)
        return (answer[0] if isinstance(answer, tuple) else answer).flatten(1)
