"""A small discriminator for 1-, 2- and 3-D signals: it says whether a signal is real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.blocks import conv, group_norm, halve
from unistep.nets.embedding import LabelEmbedding


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of a :class:`Discriminator`."""

    channels: int = 1
    """Channels of the signal."""
    dims: int = 2
    """Spatial dimensions of the signal: 1 (audio), 2 (images) or 3 (video)."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels at each resolution, finest first; each level halves the last."""
    num_classes: int = 0
    """Classes of the ``label`` condition; 0 for a discriminator without it."""

    def __post_init__(self) -> None:
        if self.dims not in (1, 2, 3):
            raise ValueError(f"dims must be 1, 2 or 3, got {self.dims}")
        if self.channels < 1 or not self.widths or min(self.widths) < 1:
            raise ValueError(f"channels and widths must be positive, got {self.channels} and {self.widths}")

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> Self:
        """The same network for signals of ``shape`` ``(channels, *spatial)`` and the class among the ``fields``."""
        label = fields.get("label")
        return replace(self, channels=shape[0], dims=len(shape) - 1, num_classes=0 if label is None else label.size)

    def build(self) -> Discriminator:
        """Make the network, with fresh weights from the global random state."""
        return Discriminator(self)


class Discriminator(nn.Module):
    r"""A convolutional network with one number for each signal, high for real ones.

    Each level is a residual pair of convolutions, and all but the last are followed by an average over neighbours. With
    :math:`\phi` the features averaged over all positions and :math:`e_c` a learned vector of the class,

    .. math:: D(x, c) = w^\top \phi(x) + e_c^\top \phi(x) .

    It normalises within a signal only (groups of channels), so that an answer does not depend on the rest of the batch,
    and it has no state besides its weights. Where the resolution cannot be halved any more it stays.

    Args:
        config: Its shape.

    References:
        Miyato & Koyama 2018, arXiv 1802.05637, equation 3, for the class.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.widths[0]
        self.input = conv(config.dims, config.channels, width)
        self.levels = nn.ModuleList()
        for target in config.widths:
            body = nn.Sequential(
                group_norm(width), nn.SiLU(), conv(config.dims, width, target),
                group_norm(target), nn.SiLU(), conv(config.dims, target, target),
            )  # fmt: skip
            skip = nn.Identity() if width == target else conv(config.dims, width, target, kernel=1)
            self.levels.append(nn.ModuleDict({"body": body, "skip": skip}))
            width = target
        self.output_norm = group_norm(width)
        self.output = nn.Linear(width, 1)
        self.label = LabelEmbedding(config.num_classes, width) if config.num_classes else None
        if self.label is not None:
            nn.init.zeros_(self.label.table.weight)

    def forward(self, x: Tensor, condition: Mapping[str, Any] | None = None) -> Tensor:
        """Score signals.

        Args:
            x: Signals of order one, shape ``[b, channels, *spatial]``, of any size.
            condition: ``label``, a value with ``index`` ``[b]``, negative for the null condition; others are ignored.

        Returns:
            One number each, shape ``[b]``.

        Raises:
            ValueError: If the channels or the number of dimensions do not fit the network.
        """
        if x.ndim != 2 + self.config.dims or x.shape[1] != self.config.channels:
            raise ValueError(
                f"this discriminator takes [b, {self.config.channels}, ...] with {self.config.dims} spatial sizes, "
                f"got {tuple(x.shape)}"
            )
        h = self.input(x)
        for i, level in enumerate(self.levels):
            if i > 0 and min(h.shape[2:]) > 1:
                h = halve(h)
            h = level["skip"](h) + level["body"](h)  # type: ignore[index]
        features = F.silu(self.output_norm(h)).flatten(2).mean(dim=2)
        score = self.output(features)[:, 0]
        if self.label is None:
            return score
        label = None if condition is None else condition.get("label")
        nothing = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        return score + (self.label(nothing if label is None else label.index) * features).sum(dim=1)
