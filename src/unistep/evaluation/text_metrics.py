"""Whether samples show what their text says: the share whose own text is found among others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import TextField, Tokens
from unistep.data import Dataset
from unistep.evaluation.sample_metrics import Group, MetricAccumulator, SampleMetrics
from unistep.evaluation.text_image import TextImageNetwork, found_among, load_text_image, sentence

CHOICES = 20
"""Texts among which an image's own is looked for."""


@final
class TextMetrics(SampleMetrics):
    """Retrieval by a text-image network: samples have the texts of real items, which stand beside them.

    Args:
        reference: Real items with texts.
        num: Number of samples.
        seed: Chooses the items and the texts among which each sample's own is looked for.
        network: The network; by default the one that the texts' field names.
        test: Held-out items; samples then have their texts in place of the reference's.

    Raises:
        ValueError: If the items have no texts, or too few, or no network knows such texts.
    """

    def __init__(
        self,
        reference: Dataset,
        num: int,
        seed: int,
        network: TextImageNetwork | None = None,
        test: Dataset | None = None,
    ) -> None:
        items = reference if test is None else test
        field = text_field(items)
        if field is None:
            raise ValueError(f"{items.source} has no texts that samples could be compared with")
        self._name, spec = field
        self.network = load_text_image(spec.judge) if network is None else network
        if self.network.shape != tuple(items.shape):
            raise ValueError(f"the text-image network takes {self.network.shape}, and items have {tuple(items.shape)}")
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
        self.index = torch.cat([order[:num].sort().values] * -(-num // len(items)))[:num].tolist()
        """The item whose text each sample has."""
        self._items, self._seed, self._held_out = items, seed, test is not None
        self._texts = self.network.embed_texts(sentence(self._tokens(range(len(items)))))

    @staticmethod
    def apply_to(items: Dataset, models: Sequence[Mapping[str, object]]) -> bool:
        """Whether items have texts that a network can be asked about, and all models take them."""
        field = text_field(items)
        return field is not None and bool(field[1].judge) and all(field[0] in fields for fields in models)

    @property
    def meaning(self) -> str:
        which = " of the held-out items" if self._held_out else ""
        return (
            f"each sample has the text of one{which or ' of the items'}; retrieved: its text is found among {CHOICES} "
            "by a text-image network that no generator was trained with (chance is 0.05)"
        )

    @property
    def condition(self) -> dict[str, Any]:
        tokens = self._tokens(self.index)
        return {self._name: [t[m] for t, m in zip(tokens.tokens, tokens.mask, strict=True)]}

    @property
    def reference_indices(self) -> list[int] | None:
        return None if self._held_out else self.index

    def accumulator(self, group: Group) -> RetrievalAccumulator | None:
        return None if group == "noise" else RetrievalAccumulator(self.network, self._texts, self.index, self._seed)

    def _tokens(self, indices: Sequence[int]) -> Tokens:
        found = self._items.conditions(indices)[self._name]
        assert isinstance(found, Tokens)
        return found


@final
class RetrievalAccumulator(MetricAccumulator):
    """Retrieval over one row of samples.

    Args:
        network: Brings images and texts together.
        texts: Unit vectors of all texts, ``[n, dim]``.
        index: The text of each sample.
        seed: Chooses the other texts.
    """

    def __init__(self, network: TextImageNetwork, texts: Float[Tensor, "n dim"], index: list[int], seed: int) -> None:
        self._network, self._texts, self._index = network, texts, index
        self._generator = torch.Generator().manual_seed(seed)
        self._found: list[Tensor] = []

    @torch.no_grad()
    def update(self, signals: Float[Tensor, "b c h w"], features: Mapping[str, Tensor]) -> None:
        del features
        seen = sum(len(part) for part in self._found)
        own = torch.tensor(self._index[seen : seen + len(signals)])
        images = self._network.embed_images(signals.float().cpu())
        self._found.append(found_among(images, own, self._texts, self._generator, CHOICES))

    def compute(self) -> dict[str, float]:
        return {"retrieved ↑": float(torch.cat(self._found).mean())}


def text_field(items: Dataset) -> tuple[str, TextField] | None:
    """Name and field of the texts that items have; ``None`` where they have none."""
    fields = items.fields.items()
    return next(((name, spec) for name, spec in fields if isinstance(spec, TextField)), None)
