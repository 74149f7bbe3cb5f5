"""Features of what the model of a stream makes: of a chunk by itself, and of a chunk with the end of its past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.core.condition import CONTEXT, Condition, Label, LabelField, Signal
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.metrics import Moments
from unistep.modalities.base import Modality
from unistep.objectives.frechet import Representation
from unistep.training.examples import Examples

ITEMS = 4_000
"""Items of the data whose moments samples are compared with, spread over it."""


def rounded(signal: Tensor, modality: Modality) -> Tensor:
    """A signal at the levels of stored ones; the gradient passes as if it were not rounded."""
    return signal + (modality.quantised(signal.detach()).to(signal) - signal).detach()


@final
class StreamFeatures(nn.Module):
    """Features of a chunk as an evaluation sees it, or of a chunk after the end of the past that the network is shown.

    A chunk by itself says whether it looks right; with what it follows, whether it follows: of videos, how things move.
    The past is what the student was shown, with the little noise of a stream, for real chunks as well.

    Args:
        examples: The codec and the context of the run.
        modality: What a chunk is, or one with its past.
        network: The feature network of such signals.
        pair: Whether the past belongs to it.
    """

    def __init__(self, examples: Examples, modality: Modality, network: FeatureNetwork, *, pair: bool) -> None:
        super().__init__()
        self.network, self.codec = network, examples.codec
        self._examples, self._modality, self._pair = examples, modality, pair

    def forward(self, x: Float[Tensor, "b *shape"], condition: Condition) -> Float[Tensor, "b dim"]:
        """Features, differentiable by the chunk."""
        context = self._examples.context
        if self._pair and context is not None:
            shown = condition[CONTEXT]
            assert isinstance(shown, Signal)
            signal = self.codec.preceded(context.past_shown(shown, self._examples.sigma_data), x)
        else:
            signal = self.codec.decode_next(x, self.codec.start(x))[0]
        return self.network.differentiable(rounded(signal, self._modality))


def stream_representations(
    names: Sequence[str],
    modality: Modality,
    examples: Examples,
    items: Iterable[tuple[Tensor, Condition]],
    classes: Mapping[str, int],
) -> list[Representation]:
    """Each feature network of chunks, and where the codec knows what comes before them also of pairs.

    Args:
        names: Names of feature networks.
        modality: What the model's signals are.
        examples: The codec and the context of the run.
        items: Real chunks with their conditions, in batches.
        classes: Number of classes by the name of each label whose means are wanted.

    Raises:
        ValueError: If there is no such network, or it takes other signals.
    """
    config, shape = examples.codec.config, modality.shape
    frames = 0 if examples.context is None else examples.context.frames
    parts = {"single": modality.part(config.chunk_shape(shape))}
    pair = config.pair_shape(shape, frames)
    if pair is not None:
        parts["pair"] = modality.part(pair)
    made: list[tuple[str, StreamFeatures]] = []
    for name in names:
        for what, part in parts.items():
            network = load_features(name, part)
            network.check_shape(part.shape)
            features = StreamFeatures(examples, part, network, pair=what == "pair")
            made.append((f"{name}-{what}", features))
    moments = [Moments(features.network.dim) for _, features in made]
    sums = [{n: torch.zeros(k, m.mean.numel(), dtype=torch.float64) for n, k in classes.items()} for m in moments]
    counts = {name: torch.zeros(k, dtype=torch.float64) for name, k in classes.items()}
    with torch.no_grad():
        for x, condition in items:
            labels = {name: condition[name] for name in classes}
            found = [features.to(x.device)(x, condition).double().cpu() for _, features in made]
            for phi, whole in zip(found, moments, strict=True):
                whole.update(phi)
            for name, value in labels.items():
                assert isinstance(value, Label)
                has = value.index >= 0
                member = nn.functional.one_hot(value.index[has], classes[name]).double().cpu()
                counts[name] += member.sum(dim=0)
                for phi, total in zip(found, sums, strict=True):
                    total[name] += member.T @ phi[has.cpu()]
    return [
        Representation(
            name=name,
            features=features,
            mean=whole.mean,
            covariance=whole.covariance,
            class_means={n: total[n] / counts[n][:, None] for n in classes},
            given=True,
        )
        for (name, features), whole, total in zip(made, moments, sums, strict=True)
    ]


def label_classes(fields: Mapping[str, object]) -> dict[str, int]:
    """Number of classes of each label."""
    return {name: field.size for name, field in fields.items() if isinstance(field, LabelField)}
