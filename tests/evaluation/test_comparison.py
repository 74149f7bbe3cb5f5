"""Rows beside the data's own distance: as many samples on both sides, whatever their order."""

from __future__ import annotations

import torch
from torch import Tensor

from unistep.evaluation.comparison import NetworkComparison
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.metrics import Moments
from unistep.evaluation.reference import ReferenceStatistics

DIM, CLASSES = 4, 10


def test_samples_one_class_after_the_other_have_the_ratio_of_all_classes() -> None:
    """Fewer held-out items than samples: those compared with them were the first ones, of one class."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        classes = torch.randint(0, CLASSES, (count,), generator=generator)
        x = torch.randn(count, DIM, generator=generator)
        x[:, 0] += classes
        return x, classes

    (reference, _), (held_out, _), (samples, classes) = drawn(4000), drawn(200), drawn(2000)
    network = FeatureNetwork(lambda x: x, name="as they are", version="1", shape=(DIM,))
    moments = Moments.of(reference)
    statistics = ReferenceStatistics(moments=moments, subset=reference, fingerprint="", features=network.hash)
    compare = NetworkComparison(network, statistics, held_out, len(samples))
    found = compare(samples[classes.argsort(stable=True)]).figures.over_test
    assert found is not None
    # Of the same distribution the ratio is 1 as far as 200 items can say; of the first classes alone it is above 100.
    assert found.low < 1 < 10 > found.value
