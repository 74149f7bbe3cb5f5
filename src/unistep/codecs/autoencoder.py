"""A small convolutional autoencoder: a network sees latents of fewer places than the signal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.codecs.base import Codec, CodecConfig, UnfitShapeError, WeightedCodecConfig, check_multiples

LATENTS = 64
"""Most latent channels."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(WeightedCodecConfig):
    """Options of :class:`Autoencoder`."""

    papers: ClassVar[tuple[str, ...]] = ("rombach2022latent",)

    latents: int = 4
    """Channels of the latents."""
    widths: tuple[int, ...] = (32, 64)
    """Channels at each resolution, finest first; there is one halving for each."""
    scale: float = 0.5
    """Standard deviation of the latents that a network sees: what a model expects."""
    bounded: bool = True
    """Whether signals lie in [-1, 1], so that decoded ones are clamped to it."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if not 1 <= self.latents <= LATENTS:
            raise ValueError(f"latents must be from 1 to {LATENTS} channels, got {self.latents}")
        if not self.widths or any(width < 8 or width % 8 for width in self.widths):
            raise ValueError(f"widths must be multiples of 8, one for each halving, got {self.widths}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")

    @property
    def factor(self) -> int:
        """How many times smaller the latents are along each axis."""
        return 2 ** len(self.widths)

    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The latents' channels, and the spatial sizes divided by :attr:`factor`.

        Raises:
            ValueError: If there are not one to three spatial sizes; an :class:`UnfitShapeError` if one is no multiple.
        """
        channels, *sizes = signal_shape
        if not 1 <= len(sizes) <= 3:
            raise ValueError(f"an autoencoder takes signals of 1 to 3 spatial dimensions, got the shape {signal_shape}")
        if any(size % self.factor for size in sizes):
            near = tuple(max(self.factor, round(size / self.factor) * self.factor) for size in sizes)
            raise UnfitShapeError(
                f"an autoencoder with {len(self.widths)} halvings takes sizes that are multiples of {self.factor}, got "
                f"{'x'.join(map(str, sizes))}",
                (channels, *near),
            )
        return (self.latents, *(size // self.factor for size in sizes))

    def build(self, signal_shape: tuple[int, ...]) -> Autoencoder:
        """The codec with fresh weights from the global random state."""
        return Autoencoder(self, signal_shape)

    def fitted(self, signal_shape: tuple[int, ...], *, dims: int | None, multiples: tuple[int, ...]) -> Self:
        """The codec for a network, whose multiples are those of the latents' sizes."""
        if dims is None or dims == len(signal_shape) - 1:
            check_multiples("latents of", self.shape(signal_shape), signal_shape, multiples, factor=self.factor)
        return super().fitted(signal_shape, dims=dims, multiples=multiples)

    def calibrated(self, signals: Iterable[Float[Tensor, "b ..."]], sigma_data: float) -> Self:
        """The scale that the model expects: the statistics of the latents are among the weights."""
        del signals
        return replace(self, scale=sigma_data)

    def aligned(self, known: CodecConfig) -> Self:
        """The weights and the scale of ``known``."""
        super().aligned(known)
        assert isinstance(known, AutoencoderConfig)
        if (known.latents, known.widths) != (self.latents, self.widths):
            raise ValueError(f"its autoencoder has {known.latents} latents and widths {known.widths}")
        return replace(self, weights=known.weights, sha256=known.sha256, scale=known.scale)


class Autoencoder(Codec):
    r"""Signals to latents of known mean and variance, and back.

    .. math:: z = s\,\frac{\mu(x) - m}{d}, \qquad \hat x = D\!\left(m + \frac{d}{s}\, z\right)

    with :math:`\mu` the encoder's mean, :math:`m` and :math:`d` the mean and the standard deviation of each latent
    channel over the data that it was trained on, and :math:`s` the configured scale.

    References:
        Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv 1312.6114; Rombach et al. 2022, "High-Resolution
        Image Synthesis with Latent Diffusion Models", arXiv 2112.10752, section 3.1 and appendix D.1, for a small
        weight of the divergence and latents scaled to a known deviation.
    """

    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, signal_shape: tuple[int, ...]) -> None:
        super().__init__(config, signal_shape)
        channels, dims = signal_shape[0], len(signal_shape) - 1
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        widths = config.widths
        down: list[nn.Module] = [conv(channels, widths[0], 3, padding=1)]
        for width, wider in zip(widths, (*widths[1:], widths[-1]), strict=True):
            down += [_Residual(conv, width), conv(width, wider, 4, stride=2, padding=1)]
        down += [_Residual(conv, widths[-1]), _normal(widths[-1]), nn.SiLU(), conv(widths[-1], 2 * config.latents, 1)]
        up: list[nn.Module] = [conv(config.latents, widths[-1], 3, padding=1), _Residual(conv, widths[-1])]
        for width, wider in zip(widths[::-1], (widths[-1], *widths[:0:-1]), strict=True):
            up += [nn.Upsample(scale_factor=2), conv(wider, width, 3, padding=1), _Residual(conv, width)]
        up += [_normal(widths[0]), nn.SiLU(), conv(widths[0], channels, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(config.latents, *[1] * dims))
        self.register_buffer("deviation", torch.ones(config.latents, *[1] * dims))

    def encode(self, signal: Float[Tensor, "b *signal"]) -> Float[Tensor, "b *shape"]:
        """Latents of zero mean and of the configured standard deviation over the training data."""
        if tuple(signal.shape[1:]) != self.signal_shape:
            wanted = ", ".join(map(str, self.signal_shape))
            raise ValueError(f"signals must have shape [b, {wanted}], got {[*signal.shape]}")
        mu, _ = self.posterior(signal)
        return (mu - self.mean) / self.deviation * self.config.scale

    def decode(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *signal"]:
        """Signals of latents; bounded ones are clamped to [-1, 1]."""
        signal = self.decoder(x / self.config.scale * self.deviation + self.mean)
        return signal.clamp(-1, 1) if self.config.bounded else signal

    def posterior(self, signal: Float[Tensor, "b *signal"]) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, neither normalised; for training."""
        mu, log_variance = self.encoder(signal).chunk(2, dim=1)
        return mu, log_variance.clamp(-20, 10)

    @torch.no_grad()
    def set_statistics(self, latents: Iterable[Float[Tensor, "b *shape"]]) -> None:
        """Take mean and deviation of each channel from unnormalised latents of the training data.

        Args:
            latents: Batches of means that :meth:`posterior` gave.
        """
        sums = torch.zeros(2, self.config.latents, dtype=torch.float64)
        count = 0
        for batch in latents:
            rows = batch.detach().double().cpu().transpose(0, 1).flatten(1)
            sums += torch.stack([rows.sum(dim=1), rows.square().sum(dim=1)])
            count += rows.shape[1]
        mean = sums[0] / max(count, 1)
        variance = (sums[1] / max(count, 1) - mean.square()).clamp_min(1e-12)
        self.mean.copy_(mean.view_as(self.mean))
        self.deviation.copy_(variance.sqrt().view_as(self.deviation))


class _Residual(nn.Module):
    """Two convolutions around the identity; starts as the identity."""

    def __init__(self, conv: type[nn.Module], width: int) -> None:
        super().__init__()
        last = conv(width, width, 3, padding=1)
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        first = conv(width, width, 3, padding=1)
        self.layers = nn.Sequential(_normal(width), nn.SiLU(), first, _normal(width), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _normal(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, width)
