"""Pictures of sounds: how wide they are."""

from __future__ import annotations

import pytest
import torch

from unistep.modalities.audio_preview import HEIGHT, WAVE, draw_sound


@pytest.mark.parametrize(("seconds", "width"), [(0.001, 256), (1, 256), (4, 256), (10, 640), (100, 4096)])
def test_a_long_sound_has_a_wide_picture(seconds: float, width: int) -> None:
    sound = torch.sin(torch.arange(int(seconds * 8000)) / 4)[None]
    picture = draw_sound(sound, 8000)
    assert picture.size == (width, WAVE + HEIGHT)
    bright = picture.crop((width * 3 // 4, WAVE, width, WAVE + HEIGHT))  # the sine goes on to the end
    assert max(high for _, high in bright.getextrema()) > 200
