"""A feature network that learns without labels: two views of a signal agree, and its features stay varied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep import registry
from unistep.evaluation.conv_trunk import CONVOLUTIONS, NORMS, ConvNorm, ConvTrunk, channels_last, in_rows
from unistep.evaluation.features import StagedNetwork
from unistep.modalities.base import Modality
from unistep.precision import Precision, autocast
from unistep.serialization import from_plain, to_plain

KIND = "vicreg"
"""What the architecture of a saved network of this kind says it is."""
_SIDE = 20  # rows and columns at most behind the stem
_MOMENTS = 8  # frames at most behind it


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """How the network is built and trained."""

    channels: tuple[int, ...] = (24, 48, 64)
    """Width of the stem and of the two stages behind it."""
    dim: int = 96
    """Number of features."""
    expanded: int = 256
    """Width in which views are compared."""
    batch_size: int = 128
    """Signals per step, two views of each."""
    epochs: int = 12
    """Passes over the data."""
    fewest: int = 150
    """Steps at least."""
    most: int = 400
    """Steps at most."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    invariance: float = 25.0
    """Weight of the distance between two views."""
    variance: float = 25.0
    """Weight of the hinge on each feature's deviation."""
    covariance: float = 1.0
    """Weight of the squared covariances."""
    hidden: float = 0.5
    """Largest side of the rectangle that each view lacks, as a share of the map's."""
    seed: int = 0
    """Seed of initial weights, data order and views."""

    def steps(self, count: int) -> int:
        """Steps for so many training signals."""
        return min(max(self.epochs * count // self.batch_size, self.fewest), self.most)


@final
class ViewFeatures(StagedNetwork):
    """A small convolutional network of maps of signals, trained by :func:`fit_views`.

    A strided stem, two stages, then one linear layer from every position to ``dim`` features, so that it matters where
    things are. Its convolutions run over all axes of the maps: of videos over time and space.

    Args:
        modality: What the signals are, or plain data that say it.
        channels: Width of the stem and of each stage behind it.
        dim: Number of features.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, *, modality: Modality | Mapping[str, Any], channels: tuple[int, ...], dim: int) -> None:
        modality = modality if isinstance(modality, Modality) else from_plain(Modality, modality)
        super().__init__()
        self.shape = modality.shape
        self.architecture: dict[str, Any] = {
            "kind": KIND,
            "modality": {"type": registry.name_of("modality", modality), **to_plain(modality)},
            "channels": list(channels),
            "dim": dim,
        }
        self.feature_map = modality.feature_map()
        _, c_in, *sizes = self.feature_map(torch.zeros(1, *modality.shape)).shape
        axes = len(sizes)
        strides = [_stride(size, most) for size, most in zip(sizes, (_MOMENTS, _SIDE, _SIDE)[-axes:], strict=True)]
        kernel = [max(2 * stride - 1, 3) for stride in strides]
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        padding = [size // 2 for size in kernel]
        stem = CONVOLUTIONS[axes](c_in, channels[0], kernel, strides, padding, bias=False)  # type: ignore[arg-type]
        first = ConvNorm(channels[0], channels[0], stride=1, axes=axes)
        self.stem = nn.Sequential(stem, NORMS[axes](channels[0]), nn.SiLU(), first)
        sizes = tuple(-(-size // stride) for size, stride in zip(sizes, strides, strict=True))
        self.trunk = ConvTrunk(channels[0], sizes, channels[1:])
        self.kernel = (3,) * axes
        """Size of the stages' kernels."""
        self.project = nn.Linear(self.trunk.size, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim, affine=False)

    def standardise(self, maps: Float[Tensor, "n c *places"]) -> None:
        """Take the mean and deviation of some maps, by which all are brought to the same scale."""
        self.offset.copy_(maps.mean())
        self.scale.copy_(1 / maps.std().clamp_min(1e-6))

    def of_maps(self, maps: Float[Tensor, "b c *places"]) -> Float[Tensor, "b dim"]:
        """Features of maps that :meth:`maps` made."""
        return self.norm(self.project(self.trunk(self.stem(maps)).flatten(1)))

    def maps(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c *places"]:
        """Maps of signals, of mean 0 and deviation 1 over the training data."""
        return (self.feature_map(signals) - self.offset) * self.scale

    def stages(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps that leave the stem and the stages."""
        first = self.stem(self.maps(signals))
        return [in_rows(first), *self.trunk.stages(first)]

    def forward(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features of signals, each of mean 0 and deviation 1 over the training data."""
        return self.of_maps(self.maps(signals))


def _stride(size: int, most: int) -> int:
    """The smallest power of two that brings a side down to ``most``."""
    stride = 1
    while -(-size // stride) > most:
        stride *= 2
    return stride


def vicreg_loss(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], recipe: ViewRecipe) -> Float[Tensor, ""]:
    r"""Variance, invariance and covariance of the embeddings of two views.

    .. math:: \lambda\, \tfrac1n \sum_i \lVert z_i - z'_i \rVert^2 / d + \mu\, [v(Z) + v(Z')] + \nu\, [c(Z) + c(Z')],
              \quad v(Z) = \tfrac1d \sum_j \max(0, 1 - \sqrt{\operatorname{Var}(z^j) + \epsilon}), \quad
              c(Z) = \tfrac1d \sum_{i \ne j} C(Z)_{ij}^2

    Args:
        a: Embeddings of one view of each signal.
        b: Those of another.
        recipe: The three weights.

    References:
        Bardes, Ponce & LeCun 2022, arXiv 2105.04906, equations 1 to 6, with the mean over dimensions in equation 5 that
        the authors' weights are for.
    """
    loss = recipe.invariance * nn.functional.mse_loss(a, b)
    for z in (a, b):
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (len(z) - 1)
        spread = (1 - (covariance.diagonal() + 1e-4).sqrt()).relu().mean()
        apart = (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
        loss = loss + recipe.variance * spread + recipe.covariance * apart
    return loss


def fit_views(
    modality: Modality,
    read: Callable[[Tensor], Float[Tensor, "b *shape"]],
    count: int,
    recipe: ViewRecipe,
    *,
    progress: Callable[[int], None] | None = None,
    precision: Precision = "fp32",
) -> tuple[ViewFeatures, ViewFeatures]:
    """Train a network on signals without labels.

    Args:
        modality: What they are; chooses their views.
        read: Signals at some positions, an ``int64`` tensor.
        count: Number of signals.
        recipe: How long and how fast.
        progress: Called with the number of signals of each finished step.
        precision: Arithmetic of the convolutions.

    Returns:
        The network in evaluation mode, and one with its initial weights to compare it with.

    Raises:
        ValueError: If there are fewer than two signals.
    """
    if count < 2:
        raise ValueError(f"features are learned from at least 2 {modality.noun}s, got {count}")
    generator = torch.Generator().manual_seed(recipe.seed)
    size = min(recipe.batch_size, count)
    steps = recipe.steps(count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network, initial = (ViewFeatures(modality=modality, channels=recipe.channels, dim=recipe.dim) for _ in range(2))
        expander = nn.Sequential(
            nn.SiLU(),
            nn.Linear(recipe.dim, recipe.expanded),
            nn.BatchNorm1d(recipe.expanded),
            nn.SiLU(),
            nn.Linear(recipe.expanded, recipe.expanded),
        )
        initial.load_state_dict(network.state_dict())
        some = read(torch.randperm(count, generator=generator)[:512].sort().values)
        for each in (network, initial):
            each.standardise(each.feature_map(some))
        with torch.no_grad():  # the untrained network too is to have features of mean 0 and deviation 1
            for _ in range(40):
                initial(some)
        parts = channels_last(nn.ModuleList([network, expander]))
        matrices = [p for p in parts.parameters() if p.dim() > 1]
        others = [p for p in parts.parameters() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps + 1)
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            index, order = order[:size].sort().values, order[size:]
            x = read(index)
            views = torch.cat([modality.random_view(x, generator) for _ in range(2)])
            maps = network.maps(views)
            hide(maps, recipe.hidden, generator)
            with autocast(precision, maps.device):
                features = network.of_maps(maps)
            a, b = expander(features.float()).chunk(2)
            loss = vicreg_loss(a, b, recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if progress:
                progress(size)
    for parameter in parts.parameters():
        parameter.data = parameter.data.contiguous()
    return network.eval(), initial.eval()


def hide(maps: Float[Tensor, "b c *places"], most: float, generator: torch.Generator) -> None:
    """Put a rectangle of zeros, of videos a box, of random size and place on each map, in place."""
    inside = torch.ones(len(maps), *(1 for _ in maps.shape[1:]), dtype=torch.bool)
    for axis in range(2, maps.ndim):
        length = maps.shape[axis]
        side = (most * length * torch.rand(len(maps), 1, generator=generator)).round()
        start = ((length + 1 - side) * torch.rand(len(maps), 1, generator=generator)).floor()
        place = torch.arange(length)
        hidden = (place >= start) & (place < start + side)
        inside = inside & hidden.view(len(maps), *(length if i == axis else 1 for i in range(1, maps.ndim)))
    maps.masked_fill_(inside.to(maps.device), 0.0)
