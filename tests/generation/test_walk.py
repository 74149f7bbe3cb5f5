"""Samples between two seeds."""

from __future__ import annotations

import pytest
import torch

import unistep
from unistep.generation.requests import Request


def test_a_walk_begins_and_ends_with_the_samples_of_its_seeds() -> None:
    fashion = unistep.load("fashion")
    shares = [None, (5, 0.0), (5, 0.5), (5, 1.0)]
    walked = fashion.sample_requests([Request(seed=2, toward=one, condition={"label": 3}) for one in shares])
    other = fashion.sample(seed=5, label=3)
    assert torch.allclose(walked[0], walked[1], atol=1e-4)
    assert torch.allclose(walked[3], other[0], atol=1e-4)
    assert (walked[2] - walked[0]).abs().max() > 0.1
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1.5"):
        fashion.sample_requests([Request(toward=(1, 1.5))])


def test_streams_have_no_walk() -> None:
    with pytest.raises(ValueError, match="phrases streams"):
        unistep.load("phrases").sample_requests([Request(toward=(1, 0.5))])


def test_a_sample_of_several_steps_does_not_depend_on_a_walk_in_its_batch() -> None:
    """The noise that is added back follows that of the beginning, whoever drew it."""
    fashion = unistep.load("fashion")
    one = Request(seed=2, steps=3, condition={"label": 3})
    alone = fashion.sample(seed=2, steps=3, label=3)
    beside = [Request(seed=4, steps=3, toward=(5, 0.5), condition={"label": 3})]
    assert torch.allclose(fashion.sample_requests([one, *beside])[0], alone[0], atol=1e-4)
    at_its_beginning = Request(seed=2, steps=3, toward=(5, 0.0), condition={"label": 3})
    assert torch.allclose(fashion.sample_requests([at_its_beginning])[0], alone[0], atol=1e-3)


@pytest.mark.parametrize("toward", [5, (5, "far"), (5, 0.5, 1)])
def test_a_walk_is_a_seed_and_a_share(toward) -> None:
    with pytest.raises(ValueError, match="toward must be another seed and a share"):
        unistep.load("fashion").sample_requests([Request(toward=toward)])
