"""What is sent of a sound before its samples."""

from __future__ import annotations

import pytest

from unistep.serving.files import wav_header


@pytest.mark.parametrize(
    ("samples", "size"), [(0, 0), (1000, 4000), (None, 2**32 - 37), (2**30 - 10, 2**32 - 40), (2**31, 2**32 - 37)]
)
def test_a_wav_header_says_how_long_the_sound_is_as_far_as_it_can(samples, size):
    header = wav_header(44_100, 2, samples)
    assert len(header) == 44
    assert int.from_bytes(header[40:], "little") == size
    assert int.from_bytes(header[4:8], "little") == size + 36
