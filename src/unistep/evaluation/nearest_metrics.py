"""How near samples are to the items that a model was trained on: whether it made something new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.evaluation.intervals import BLOCKS, Resampled, resampled_blocks
from unistep.evaluation.reference import batches, signals
from unistep.evaluation.sample_metrics import Applied, Group, MetricAccumulator, SampleMetrics
from unistep.provenance import COMPOSITE, Provenance

if TYPE_CHECKING:
    from unistep.data import Dataset

MOST = 512
"""Samples of each row that are looked at, the first ones; of held-out items, which may be in the order of their classes
or recordings, as many at random."""
MOST_REFERENCE = 20_000
"""Items of the reference among which the nearest is looked for."""
SHOWN = 6
"""Samples that are shown beside the items nearest to them."""


def nearest(
    samples: Float[Tensor, "n *shape"], reference: Dataset, index: Sequence[int]
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Root mean square difference of each sample from the item nearest to it, and that item's position.

    Args:
        samples: Signals in [-1, 1].
        reference: The items.
        index: Positions of those among which the nearest is looked for.
    """
    ours = samples.flatten(1).float()
    squares = ours.square().sum(dim=1)
    least, position = torch.full((len(ours),), torch.inf), torch.zeros(len(ours), dtype=torch.int64)
    start = 0
    for batch in batches(reference, index):
        theirs = batch.flatten(1)
        apart = squares[:, None] + theirs.square().sum(dim=1) - 2 * ours @ theirs.T
        found = apart.min(dim=1)
        nearer = found.values < least
        least = torch.where(nearer, found.values, least)
        position = torch.where(nearer, torch.tensor(index)[start + found.indices], position)
        start += len(batch)
    return (least.clamp_min(0) / ours.shape[1]).sqrt(), position


@final
class NearestMetrics(SampleMetrics):
    """The distance from samples to the nearest item of the reference.

    Args:
        reference: What the model was trained on.
        sheet: Picture to write, of the first samples of the first row with the items nearest to them.
    """

    def __init__(self, reference: Dataset, sheet: Path | None = None) -> None:
        self._reference, self._sheet = reference, sheet
        order = torch.randperm(len(reference), generator=torch.Generator().manual_seed(0))[:MOST_REFERENCE]
        self._index = order.sort().values.tolist()

    @classmethod
    def applied(cls, given: Applied) -> Self | None:
        """For clips; of other signals where a person asks for it."""
        return cls(given.reference) if given.reference.modality.still is not None else None

    @property
    def meaning(self) -> str:
        return (
            f"nearest: root mean square difference of values from the nearest of {len(self._index):,} items of the "
            f"reference, mean over the first {MOST} samples, or over as many held-out items at random; of a model that "
            "repeats its data it is far below that of held-out data"
        )

    def accumulator(self, group: Group) -> MetricAccumulator | None:
        if group not in ("samples", "test"):
            return None
        return NearestAccumulator(self, show=group == "samples", at_random=group == "test")

    def compare(self, samples: Float[Tensor, "n *shape"], *, show: bool) -> dict[str, Resampled]:
        """The column of some samples.

        Args:
            samples: Signals in [-1, 1].
            show: Whether they may be shown.
        """
        distances, position = nearest(samples, self._reference, self._index)
        if show and self._sheet is not None:
            self._draw(samples[:SHOWN], distances, position[:SHOWN], self._sheet)
            self._sheet = None
        blocks = distances.split(1) if len(distances) < BLOCKS else distances.tensor_split(BLOCKS)
        return {"nearest": resampled_blocks(blocks, lambda parts: float(torch.cat(list(parts)).mean()))}

    def _draw(self, samples: Tensor, distances: Tensor, position: Tensor, sheet: Path) -> None:
        from unistep.modalities.writing import write_picture

        theirs = signals(self._reference, position.tolist())
        rows: list[tuple[str, Tensor]] = []
        for i, (ours, near) in enumerate(zip(samples.cpu(), theirs, strict=True)):
            rows += [(f"sample {i + 1}", ours[None]), (f"nearest, {distances[i]:.3f}", near[None])]
        known = Provenance(model="", model_hash="", source_type=COMPOSITE)
        sheet.parent.mkdir(parents=True, exist_ok=True)
        write_picture(self._reference.modality.contact_sheet(rows), sheet, known)


@final
class NearestAccumulator(MetricAccumulator):
    """Keeps the first samples of one row, or as many of them at random.

    Args:
        metrics: What they are compared with.
        show: Whether they may be shown.
        at_random: Whether any of them may be kept, each as likely as another.

    References:
        Vitter 1985, "Random sampling with a reservoir", ACM Transactions on Mathematical Software 11(1), algorithm R.
    """

    def __init__(self, metrics: NearestMetrics, *, show: bool, at_random: bool = False) -> None:
        self._metrics, self._show, self._kept = metrics, show, list[Tensor]()
        self._seen, self._generator = 0, torch.Generator().manual_seed(0) if at_random else None

    def update(self, signals: Float[Tensor, "b *shape"], features: Mapping[str, Tensor]) -> None:
        del features
        for signal in signals:
            self._seen += 1
            if len(self._kept) < MOST:
                self._kept.append(signal.cpu().clone())
            elif self._generator is not None:
                place = int(torch.randint(self._seen, (), generator=self._generator))
                if place < MOST:
                    self._kept[place] = signal.cpu().clone()

    def compute(self) -> dict[str, Resampled]:
        return self._metrics.compare(torch.stack(self._kept), show=self._show)
