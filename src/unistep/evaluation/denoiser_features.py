"""What a trained denoiser makes of signals on the way: features of any data, from a model that is there anyway."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.path import expand_to
from unistep.evaluation.conv_trunk import in_rows
from unistep.evaluation.features import FeatureNetwork, StagedNetwork
from unistep.evaluation.fixed_features import GRIDS, directions

if TYPE_CHECKING:
    from unistep.codecs.base import Codec
    from unistep.core.flowmap import Map
    from unistep.modalities.base import Modality

LEVEL = 0.2
"""Noise to signal ratio that the network assumes, relative to the data's standard deviation.

At low levels its later maps are of what tells signals from what is nearly like them: there the samples of a one-step
model stand out most from those of its teacher.
"""


@runtime_checkable
class Staged(Protocol):
    """A network whose maps are features; see :class:`unistep.nets.conditioned.ConditionedNetwork`."""

    def stages(self) -> list[nn.Module]:
        """The modules that make them."""
        ...

    def stage_map(self, output: Tensor, batch_size: int) -> Tensor:
        """What one of them made, with its places."""
        ...


@final
class DenoiserFeatures(StagedNetwork):
    r"""The maps inside of a denoiser, each averaged over a grid of places and on fixed random directions.

    Signals go in as they are, as if they had a little noise, without a condition. At each place of a map :math:`h` with
    :math:`c` channels, the values are divided by their root mean square, so that no channel outweighs all others:

    .. math:: \hat h = h \Big/ \sqrt{\tfrac1c \lVert h\rVert^2 + \epsilon}

    Args:
        model: The denoiser, whose network names its ``stages``.
        codec: What lies between signals and what the denoiser sees.
        shape: Shape of one signal.
        dim: Largest number of features of all maps, and a fifth of it the largest of each.
        grid: Places along each axis that a map is averaged over.

    Raises:
        ValueError: If the network does not say which of its maps are features.

    References:
        Baranchuk et al. 2022, arXiv 2112.03126, section 3; Zhang et al. 2018, arXiv 1801.03924, equation 1, for the
        division.
    """

    def __init__(self, model: Map, codec: Codec, shape: tuple[int, ...], dim: int = 480, grid: int = 2) -> None:
        super().__init__()
        if not isinstance(model.net, Staged):
            raise ValueError("its network does not name its stages, as a U-Net and a DiT do")
        self.model, self._codec, self._grid = model, codec, grid
        self.eval().requires_grad_(False)
        with torch.no_grad():
            maps = self.maps(torch.zeros(1, *shape))
        each = dim // max(5, len(maps))  # so that a deep network has no more, and a population of samples has moments
        for i, x in enumerate(maps):
            size = x.shape[1] * math.prod(min(grid, n) for n in x.shape[2:])
            self.register_buffer(f"directions_{i}", directions(size, each, seed=i), persistent=False)

    def maps(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b c *places"]]:
        """The maps that leave the network's stages, in their order, each place of unit mean square."""
        x = self._codec.encode(signals.float())
        path, net, found = self.model.path, cast(Staged, self.model.net), list[Tensor]()

        def keep(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
            del module, inputs
            found.append(output)

        handles = [stage.register_forward_hook(keep) for stage in net.stages()]
        try:
            ratio = torch.tensor([LEVEL * self.model.sigma_data], dtype=torch.float64)
            t = path.time_at(ratio).clamp(path.t_min, path.t_max).float().to(x.device)
            t = t.expand(len(x))
            self.model(expand_to(path.alpha(t), x) * x, t)
        finally:
            for handle in handles:
                handle.remove()
        maps = [net.stage_map(h, len(x)).float() for h in found]
        return [h / (h.square().mean(dim=1, keepdim=True) + 1e-6).sqrt() for h in maps]

    def stages(self, signals: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps with two axes of places."""
        return [in_rows(x) if x.dim() > 3 else x[:, :, None] for x in self.maps(signals)]

    def forward(self, signals: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features of signals in [-1, 1]."""
        found = []
        for i, x in enumerate(self.maps(signals)):
            places = [min(self._grid, n) for n in x.shape[2:]]
            found.append(GRIDS[len(places) - 1](x, places).flatten(1) @ self.get_buffer(f"directions_{i}"))
        return torch.cat(found, dim=1)


def denoiser(name: str, modality: Modality) -> FeatureNetwork:
    """The maps inside of a model, which is best a teacher: a shipped one, a folder, or ``owner/name``.

    Raises:
        ValueError: If there is no such model, or it makes other signals or chunks of streams.
    """
    from unistep.hub.load import load

    if not name:
        raise ValueError("denoiser:MODEL needs a model, such as denoiser:fashion-teacher or denoiser:runs/teacher")
    generator = load(name)
    if generator.signal_shape != modality.shape or generator.config.context is not None:
        raise ValueError(
            f"denoiser:{name} makes signals of shape {'x'.join(map(str, generator.signal_shape))}"
            f"{', in chunks' if generator.config.context else ''}, and features are wanted of signals of shape "
            f"{'x'.join(map(str, modality.shape))}; name a model of such signals"
        )
    shown = Path(name).name if Path(name).is_dir() else name  # a label goes into cards, and no one else has the folder
    try:
        return features_inside(generator.map, generator.codec, modality, f"denoiser:{shown}")
    except ValueError as error:
        raise ValueError(f"denoiser:{name}: {error}") from None


def features_inside(model: Map, codec: Codec, modality: Modality, name: str) -> FeatureNetwork:
    """The maps inside of a model as a feature network of a name.

    Raises:
        ValueError: If the model's network does not say which of its maps are features.
    """
    network = DenoiserFeatures(model, codec, modality.shape)
    return FeatureNetwork(network, name=name, version="1", shape=modality.shape)
