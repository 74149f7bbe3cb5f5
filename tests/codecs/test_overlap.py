"""Chunks of an endless sound: no seam on the way to spectra, none on the way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unistep.codecs.overlap import Overlap, split
from unistep.modalities.audio import AudioModality

CHUNKS = AudioModality(sample_rate=8_000, samples=2 * 16 * 32, n_fft=64, hop=32, scale=8.0, multiple=1, chunk=16)
FINE = replace(CHUNKS, hop=16, samples=2 * 16 * 16)
STEREO = replace(CHUNKS, channels=2, dims=1)


def sound(modality: AudioModality, chunks: int) -> Tensor:
    """Noise, 16 bits, ``[1, c, n]``."""
    samples = torch.randn(1, modality.channels, chunks * modality.samples // 2, generator=torch.manual_seed(0)) * 0.1
    return (samples * 32_768).round().short()


def examples(modality: AudioModality, whole: Tensor) -> list[Tensor]:
    """Each window of two chunks, beginning one chunk after the last."""
    step = modality.samples // 2
    return [whole[..., i : i + 2 * step] for i in range(0, whole.shape[-1] - 2 * step + 1, step)]


@pytest.mark.parametrize("modality", [CHUNKS, FINE, STEREO], ids=["half", "quarter", "stereo"])
def test_the_next_chunks_of_a_sound_are_that_sound(modality: AudioModality) -> None:
    """Though each is cut out of a window of its own: neither windows nor phases show a seam."""
    whole, overlap = sound(modality, 9), Overlap(modality)
    heard = torch.cat([overlap.next(modality.split(example)[1]) for example in examples(modality, whole)], dim=-1)
    # The second chunk's frames are the last whole ones of a window.
    begin = modality.samples - modality.n_fft - (modality.chunk - 1) * modality.hop
    filled = modality.n_fft  # the first frame fades in
    wanted = whole[..., begin + filled : begin + heard.shape[-1]] / 32_768
    assert (heard[..., filled:] - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("modality", [CHUNKS, FINE, STEREO], ids=["half", "quarter", "stereo"])
def test_chunk_by_chunk_is_the_same_as_all_at_once(modality: AudioModality) -> None:
    spectra = [torch.randn(2, *modality.shape, generator=torch.manual_seed(i)) for i in range(5)]
    overlap = Overlap(modality)
    chunks = torch.cat([overlap.next(x) for x in spectra], dim=-1)
    at_once = Overlap(modality).next(torch.cat(spectra, dim=-1))
    assert chunks.shape == (2, modality.channels, 5 * modality.samples // 2)
    assert (chunks - at_once).abs().max() < 1e-5


def test_what_came_before_ends_where_the_next_chunk_begins() -> None:
    """The frames of the last chunk in one window are those of the next one in the window before."""
    first, second = examples(CHUNKS, sound(CHUNKS, 3))
    past, _ = split(CHUNKS, second)
    _, last = split(CHUNKS, first)
    assert past.shape == (1, 2, 32, 15)
    assert torch.allclose(past, last[..., -15:], atol=1e-5)


def test_the_way_back_is_that_of_a_whole_sound() -> None:
    """In the middle, where the latter has no edge, and with its frames centred on their times."""
    modality = replace(CHUNKS, chunk=0, samples=31 * 32)
    x = torch.randn(1, *modality.shape, generator=torch.manual_seed(3)) / 4
    heard = Overlap(CHUNKS).next(x)[..., 32:]
    wanted = modality.to_signal(x)
    assert (heard[..., 32:900] - wanted[..., 32:900]).abs().max() < 1e-5


def test_silence_comes_before_the_first_chunk() -> None:
    x = torch.randn(1, *CHUNKS.shape, generator=torch.manual_seed(0))
    heard = Overlap(CHUNKS).next(x)
    assert heard[..., 0].abs().max() < 1e-6
    assert heard[..., :8].abs().max() < 0.2 * heard.abs().max()


def test_shapes_of_a_modality_of_chunks() -> None:
    assert CHUNKS.frames == 16
    assert CHUNKS.shape == (2, 32, 16)
    assert STEREO.shape == (128, 16)
    assert CHUNKS.signal_shape == (1, 1_024)
    assert FINE.period == 4
    assert torch.equal(CHUNKS.to_tensor(sound(CHUNKS, 2)), CHUNKS.split(sound(CHUNKS, 2))[1])


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="multiple of 2 frames of which the samples hold two, 1024, got 16 and 1000"):
        replace(CHUNKS, samples=1_000)
    with pytest.raises(ValueError, match="multiple of 4 frames"):
        replace(FINE, chunk=14, samples=2 * 14 * 16)
    with pytest.raises(ValueError, match="by chunks"):
        CHUNKS.to_signal(torch.zeros(1, *CHUNKS.shape))
    with pytest.raises(ValueError, match="by chunks"):
        CHUNKS.spectrum(torch.zeros(1, 1, 1_024))
    with pytest.raises(ValueError, match=r"two chunks have shape \[b, 1, 1024\], got \[1, 1, 512\]"):
        split(CHUNKS, sound(CHUNKS, 1))
    with pytest.raises(ValueError, match="has chunk above 0"):
        AudioModality().split(torch.zeros(1, 1, 16_000, dtype=torch.int16))
    with pytest.raises(ValueError, match="multiple of 2 frames, got 3"):
        Overlap(CHUNKS).next(torch.zeros(1, 2, 32, 3))
