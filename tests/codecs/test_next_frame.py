"""Frames of a video as a stream: which frames are the past, and what a person is told of clips that do not fit."""

from __future__ import annotations

import pytest
import torch

from unistep.codecs.base import UnfitShapeError
from unistep.codecs.next_frame import NextFrameConfig

CONFIG = NextFrameConfig(history=3, scale=0.5)
CLIP = torch.linspace(-1, 1, 2 * 2 * 6 * 4 * 4).view(2, 2, 6, 4, 4)
CODEC = CONFIG.build((2, 6, 4, 4))


def test_the_past_is_the_frames_before_with_the_oldest_first():
    for number, at in ((-1, 5), (-3, 3), (4, 4)):
        past, frame = CODEC.split(CLIP, number)
        assert torch.equal(frame, CLIP[:, :, at] / 2)
        for age in range(3):
            assert torch.equal(past[:, 2 * age : 2 * age + 2], CLIP[:, :, at - 3 + age] / 2)
    with pytest.raises(ValueError, match="clips of 6 frames have no frame -4 with 3 before it"):
        CODEC.split(CLIP, -4)


def test_remembering_every_frame_gives_the_past_of_the_next():
    past, frame = CODEC.split(CLIP, 3)
    never = torch.zeros(2, dtype=torch.bool)
    for number in (4, 5):
        past = CODEC.remember(past, frame, never)
        wanted, frame = CODEC.split(CLIP, number)
        assert torch.equal(past, wanted)


def test_after_the_first_frame_nothing_has_moved():
    frame = CODEC.encode(CLIP)
    past = CODEC.remember(CODEC.no_past(frame), frame, torch.tensor([True, False]))
    assert torch.equal(past[0], frame[0].repeat(3, 1, 1))
    assert torch.equal(past[1], torch.cat([torch.zeros(4, 4, 4), frame[1]]))
    assert torch.equal(CODEC.past_of(CLIP[:, :, -1:]), frame.repeat(1, 3, 1, 1))


def test_frames_come_back_as_clips_of_one():
    frame = CODEC.encode(CLIP)
    signal, _ = CODEC.decode_next(frame, CODEC.start(frame))
    assert torch.equal(signal, CLIP[:, :, -1:])
    assert torch.equal(CODEC.join([signal, signal]), CLIP[:, :, -1:].expand(-1, -1, 2, -1, -1))


def test_clips_that_do_not_fit_are_refused_in_a_line():
    with pytest.raises(ValueError, match=r"3 frames of the history and the next one, got 3 .*--data.frames 4 or more"):
        CONFIG.shape((3, 3, 8, 8))
    CONFIG.check_rollout((3, 6, 8, 8), 2)
    with pytest.raises(ValueError, match=r"got 6 frames; give --data.frames 7 or more, or --model.context.rollout 2"):
        CONFIG.check_rollout((3, 6, 8, 8), 3)
    with pytest.raises(ValueError, match=r"frames are those of clips \[c, frames, h, w\], got .* \[3, 8, 8\]"):
        CONFIG.shape((3, 8, 8))
    with pytest.raises(UnfitShapeError, match="multiples of 4") as caught:
        CONFIG.fitted((3, 5, 9, 12), dims=2, multiples=(4,))
    assert caught.value.nearest == (3, 5, 8, 12)
    with pytest.raises(ValueError, match="takes 3 spatial dimensions"):
        CONFIG.fitted((3, 5, 8, 8), dims=3, multiples=(4,))
    for field in ({"history": 0}, {"scale": 0.0}):
        with pytest.raises(ValueError, match=next(iter(field))):
            NextFrameConfig(**field)


def test_a_model_that_starts_from_another_has_its_scale():
    assert NextFrameConfig(history=3).aligned(NextFrameConfig(history=8, scale=0.5)) == CONFIG
