"""What a run gives an objective beside student and teacher: a discriminator, feature networks, examples of its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.codecs.base import Codec
from unistep.core.condition import GUIDANCE, Condition, LabelField, ScalarField
from unistep.core.flowmap import Map
from unistep.core.seeding import derived_seed
from unistep.data import Dataset, prepare
from unistep.data.tensors import Subset
from unistep.evaluation.denoiser_features import Staged, features_inside
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.reference import reference_statistics, shown_statistics, subset_indices
from unistep.evaluation.roles import feature_roles
from unistep.modalities.base import Modality
from unistep.nets.discriminator import DiscriminatorConfig
from unistep.objectives.frechet import Representation
from unistep.training.examples import Examples
from unistep.training.own_streams import OwnStreams
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig
from unistep.training.stream_features import ITEMS, label_classes, rounded, stream_representations

_AT_ONCE = 250


@final
class DecodedFeatures(nn.Module):
    """Features of what a network makes, as an evaluation sees it: decoded, and rounded to the levels of stored signals.

    The gradient passes through the rounding as if there were none.

    Args:
        codec: From what the network makes to signals.
        modality: What the signals are.
        network: The feature network.
    """

    def __init__(self, codec: Codec, modality: Modality, network: FeatureNetwork) -> None:
        super().__init__()
        self.codec, self.modality, self.network = codec, modality, network

    def forward(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
        """Features, differentiable."""
        return self.network.differentiable(rounded(self.codec.decode(x), self.modality))


@final
class RunMaterials:
    """The materials of one run.

    Args:
        config: The run, whose model fits its data.
        data: Its data as signals; without, there are no representations.
        stored: Its data as the network is trained on it, which may be latents.
        examples: Turns the latter into what the network sees.
        world: The processes, of which the main one looks at the data first.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset | None = None,
        stored: Dataset | None = None,
        examples: Examples | None = None,
        world: World | None = None,
    ) -> None:
        self._config, self._data, self._stored = config, data, data if stored is None else stored
        self._examples, self._world = examples, world or World()

    def discriminator(self, widths: tuple[int, ...]) -> nn.Module:
        """A fresh discriminator of what the network makes; see :class:`~unistep.objectives.base.Materials`."""
        model = self._config.model
        torch.manual_seed(derived_seed(self._config.seed, "discriminator"))
        return DiscriminatorConfig(widths=widths).fitted(model.codec.shape(model.modality.shape), model.fields).build()

    def representations(
        self, names: Sequence[str], *, by_class: bool = False, teacher: Map | None = None
    ) -> list[Representation]:
        """Feature networks with the moments of the data; see :class:`~unistep.objectives.base.Materials`.

        Of a model of streams they are of chunks, and of chunks with the past before them. The maps inside of a teacher
        are compared with those of some thousand items, spread over the data: it is slow beside feature networks.

        Raises:
            ValueError: If there is no such network, or it takes other signals.
        """
        data, examples = self._data, self._examples
        if data is None or examples is None:
            raise ValueError("representations need data, and this run has none")
        codec, modality = examples.codec, data.modality
        names = names or feature_roles(data).training
        if codec.chunked:
            real = self.examples(min(len(data), ITEMS))
            classes = label_classes(data.fields) if by_class else {}
            return stream_representations(names, modality, examples, real, classes)
        found: list[tuple[str, FeatureNetwork, Dataset]] = []
        for name in names:
            network = load_features(name, modality)
            network.check_shape(modality.shape)
            found.append((name, network, data))
        if teacher is not None and isinstance(teacher.net, Staged):
            count = min(len(data), ITEMS)
            some = Subset(data, [i * len(data) // count for i in range(count)])
            found.append(("teacher", features_inside(teacher, codec, modality, "teacher"), some))
        made = []
        for name, network, real in found:
            self._world.run_on_rank_zero(lambda network=network, real=real: shown_statistics(real, network) and None)
            statistics = reference_statistics(real, network)
            made.append(
                Representation(
                    name=name,
                    features=DecodedFeatures(codec, modality, network),
                    mean=statistics.moments.mean,
                    covariance=statistics.moments.covariance,
                    class_means=_class_means(real, statistics.subset) if by_class else {},
                )
            )
        return made

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        """That of the model's condition; see :class:`~unistep.objectives.base.Materials`."""
        field = self._config.model.fields.get(GUIDANCE)
        return (field.low, field.high) if isinstance(field, ScalarField) else None

    def examples(self, count: int) -> Iterator[tuple[Tensor, Condition]]:
        """Clean inputs with their conditions; see :class:`~unistep.objectives.base.Materials`.

        Raises:
            ValueError: If the run has no data.
        """
        data, examples = self._stored, self._examples
        if data is None or examples is None:
            raise ValueError("examples need data, and this run has none")
        device = self._world.device
        generator = torch.Generator(device).manual_seed(derived_seed(self._config.seed, "examples"))
        chosen = [i * len(data) // count for i in range(count)]
        for start in range(0, count, _AT_ONCE):
            stored, condition = data.batch(chosen[start : start + _AT_ONCE])
            yield examples(stored, condition, device, generator)

    def streams(self, count: int, length: int, answering: bool) -> OwnStreams:
        """Streams of the student's own, under recordings of the run's data; see :class:`OwnStreams`.

        Args:
            count: Number of streams.
            length: Chunks after the past.
            answering: Whether conditions are those of recorded moments that look like the stream.

        Raises:
            ValueError: If the model is none of a stream of frames, or no recording is so long.
        """
        data, examples = self._data, self._examples
        if data is None or examples is None:
            raise ValueError("streams need data, and this run has none")
        modality = data.modality
        lasting = modality.part(examples.codec.config.lasting_shape(modality.shape, length))
        config = replace(self._config.data, options=lasting.as_options().apart())
        self._world.run_on_rank_zero(lambda: prepare(config) and None)
        recordings = prepare(config, progress=False)
        return OwnStreams(examples, recordings, count, length, self._config.seed, answering=answering)


def _class_means(data: Dataset, subset: Float[Tensor, "m dim"]) -> Mapping[str, Float[Tensor, "classes dim"]]:
    """Mean features of each class of each label, from those of a random subset of the data; NaN where that has none."""
    chosen = subset_indices(len(data)).tolist()
    conditions = [data.batch(chosen[i : i + _AT_ONCE])[1] for i in range(0, len(chosen), _AT_ONCE)]
    found = {}
    for name, field in data.fields.items():
        if not isinstance(field, LabelField):
            continue
        index = torch.cat([condition[name].tensors["index"] for condition in conditions])
        has = index >= 0
        member = torch.nn.functional.one_hot(index[has], field.size).double()
        found[name] = (member.T @ subset[has].double()) / member.sum(dim=0)[:, None]
    return found
