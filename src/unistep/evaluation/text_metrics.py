"""Whether samples show what their text says: the share whose own text is found among others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import TextField, Tokens
from unistep.data import Dataset
from unistep.evaluation.sample_metrics import Applied, Group, MetricAccumulator, SampleMetrics
from unistep.evaluation.text_image import TextImageNetwork, found_among, load_text_image, sentence

CHOICES = 20
"""Texts among which an image's own is looked for."""


@final
class TextMetrics(SampleMetrics):
    """Retrieval by a text-image network: samples have the texts of items of the reference.

    Args:
        reference: Real items with texts.
        num: Number of samples.
        seed: Chooses the items, and the texts among which each sample's own is looked for.
        network: The network; by default the one that the texts' field names.
        test: Held-out items, which get a row of their own by their own texts; without, those of the reference do.

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
        field = text_field(reference)
        if field is None:
            raise ValueError(f"{reference.source} has no texts that samples could be compared with")
        self._name, spec = field
        shape = tuple(reference.modality.shape)
        self.network = load_text_image(spec.evaluator) if network is None else network
        if self.network.shape != shape:
            raise ValueError(
                f"the text-image network takes signals of shape {self.network.shape}, and items have {shape}"
            )
        self._seed, self._tokens = seed, _texts(reference, self._name)
        self.index = evaluated_items(len(reference), num, seed)
        """The item of the reference whose text each sample has."""
        self._rows = {"samples": (self.network.embed_texts(sentence(self._tokens)), self.index)}
        known = [self._tokens]
        if test is None:
            self._rows["reference"] = self._rows["samples"]
        else:
            known.append(_texts(test, self._name))
            held_out = self.network.embed_texts(sentence(known[-1]))
            self._rows["test"] = (held_out, evaluated_items(len(test), min(num, len(test)), seed))
        for texts in known:
            if not enough(texts):
                raise ValueError(f"choosing among {CHOICES} texts needs as many that differ, and there are fewer")

    @classmethod
    def applied(cls, given: Applied) -> Self | None:
        """Where items have texts that a network of their shape can be asked about, all models take them, and no
        condition is given.
        """
        reference, field = given.reference, None if given.given else text_field(given.reference)
        if field is None or not field[1].evaluator or any(field[0] not in fields for fields in given.fields):
            return None
        if any(not enough(_texts(items, field[0])) for items in (reference, given.test) if items is not None):
            return None
        network = load_text_image(field[1].evaluator)
        if network.shape != tuple(reference.modality.shape):
            return None
        return cls(reference, given.num, given.seed, network, test=given.test)

    @property
    def meaning(self) -> str:
        """What the column says."""
        return (
            f"each sample has the text of an item of the reference; retrieved: its text is found among {CHOICES} by a "
            "text-image network that no generator was trained with (chance is 0.05)"
        )

    @property
    def condition(self) -> dict[str, Any]:
        """The text of each sample."""
        own = [t[m] for t, m in zip(self._tokens.tokens, self._tokens.mask, strict=True)]
        return {self._name: [own[i] for i in self.index]}

    @property
    def reference_indices(self) -> list[int] | None:
        """The items whose texts the samples have, each once."""
        return list(dict.fromkeys(self.index))

    def accumulator(self, group: Group) -> RetrievalAccumulator | None:
        """Retrieval among the texts of the row's own items; noise has none."""
        row = self._rows.get(group)
        return None if row is None else RetrievalAccumulator(self.network, *row, self._seed)


def enough(texts: Tokens) -> bool:
    """Whether there are as many different texts as one is looked for among: many items may share a few captions."""
    seen: set[bytes] = set()
    for text in texts.tokens:
        seen.add(text.contiguous().numpy().tobytes())
        if len(seen) >= CHOICES:
            return True
    return False


def evaluated_items(count: int, num: int, seed: int) -> list[int]:
    """The items that an evaluation of ``num`` samples looks at, in order and as often as needed."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:num].sort().values
    return order.repeat(-(-num // len(order)))[:num].tolist()


def _texts(items: Dataset, name: str) -> Tokens:
    found = items.conditions(range(len(items)))[name]
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
