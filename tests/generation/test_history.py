"""What came before: noised by a known level in training, by a little in a stream, and missing at the start."""

from __future__ import annotations

import pytest
import torch

from unistep.core.condition import CONTEXT, Label, drop, labels, null_condition
from unistep.core.seeding import ItemGenerators
from unistep.generation.history import Context

PAST = torch.randn(4_000, 2, 6, generator=torch.manual_seed(0)) * 0.5
TOLD = {"pitch": Label(torch.arange(4_000) % 5)}


def test_training_shows_the_last_frames_under_noise_of_the_told_level(generator: torch.Generator) -> None:
    context = Context(frames=4, noise=2.0, missing=0.25)
    shown = context.in_training(TOLD, PAST[..., 2:], 0.5, generator)
    level = shown[CONTEXT].level
    there = ~level.isnan()
    assert float(there.float().mean()) == pytest.approx(0.75, abs=0.03)
    assert float(level[there].max()) < 2.0
    assert float(level[there].mean()) == pytest.approx(1.0, abs=0.03)
    assert shown[CONTEXT].signal.shape == (4_000, 2, 4)
    assert not shown[CONTEXT].signal[~there].any()
    wide = level[there][:, None, None]
    noise = (shown[CONTEXT].signal[there] * (1 + wide.square()).sqrt() - PAST[there][..., 2:] / 0.5) / wide
    assert float(noise.std()) == pytest.approx(1.0, abs=0.02)
    assert float(shown[CONTEXT].signal[there].std()) == pytest.approx(1.0, abs=0.02)  # as the network expects
    assert torch.equal(shown["pitch"].index, TOLD["pitch"].index)


def test_a_stream_shows_them_at_its_own_level_and_a_start_nothing() -> None:
    context = Context(frames=4, level=0.1)
    shown = context.in_stream({}, PAST[:3, :, 2:], 0.5, ItemGenerators([1, 2, 3]))
    assert torch.equal(shown[CONTEXT].level, torch.full((3,), 0.1))
    assert float((shown[CONTEXT].signal - PAST[:3][..., 2:] / 0.5).abs().mean()) < 0.2
    alone = context.in_stream({}, PAST[2:3, :, 2:], 0.5, ItemGenerators([3]))
    assert torch.equal(alone[CONTEXT].signal[0], shown[CONTEXT].signal[2])
    nothing = context.at_start(TOLD, PAST)
    assert not nothing[CONTEXT].signal.any()
    assert nothing[CONTEXT].level.isnan().all()


def test_labels_are_dropped_and_what_came_before_is_not(generator: torch.Generator) -> None:
    shown = Context(frames=4, missing=0.0).in_training(TOLD, PAST[..., 2:], 0.5, generator)
    assert labels(shown).keys() == {"pitch"}
    for emptied in (null_condition(shown), drop(shown, 0.5, generator)):
        assert (emptied["pitch"].index == -1).any()
        assert torch.equal(emptied[CONTEXT].signal, shown[CONTEXT].signal)
        assert torch.equal(emptied[CONTEXT].level, shown[CONTEXT].level)
    unlabelled = {name: value for name, value in shown.items() if name != "pitch"}
    assert drop(unlabelled, 0.5, generator).keys() == unlabelled.keys()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"frames": 0}, "at least 1, got 0"),
        ({"level": 0.9}, "from 0 to its noise, got 0.9 and 0.6"),
        ({"rollout": -1}, "0 for none, got -1"),
        ({"missing": 1.0}, "from 0 to below 1, got 1.0"),
    ],
)
def test_mistakes_are_named(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Context(**wrong)  # type: ignore[arg-type]
