"""Chunks of a stream: no chunk boundary on the way to spectra, none on the way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unistep.codecs.spectrum import Spectrum, SpectrumConfig

CONFIG = SpectrumConfig(n_fft=64, hop=32, scale=8.0, multiple=1, chunk=16)
CHUNKS = CONFIG.build((1, 2 * 16 * 32))
FINE = replace(CONFIG, hop=16).build((1, 2 * 16 * 16))
STEREO = replace(CONFIG, dims=1).build((2, 2 * 16 * 32))


def sound(codec: Spectrum, chunks: int) -> Tensor:
    """Noise, ``[1, c, n]``."""
    channels, samples = codec.signal_shape
    return torch.randn(1, channels, chunks * samples // 2, generator=torch.manual_seed(0)) * 0.1


def examples(codec: Spectrum, whole: Tensor) -> list[Tensor]:
    """Each window of two chunks, beginning one chunk after the last."""
    step = codec.signal_shape[1] // 2
    return [whole[..., i : i + 2 * step] for i in range(0, whole.shape[-1] - 2 * step + 1, step)]


def played(codec: Spectrum, spectra: list[Tensor]) -> Tensor:
    """The waveform of successive chunks."""
    state, chunks = codec.start(spectra[0]), []
    for x in spectra:
        chunk, state = codec.decode_next(x, state)
        chunks.append(chunk)
    return torch.cat(chunks, dim=-1)


@pytest.mark.parametrize("codec", [CHUNKS, FINE, STEREO], ids=["half", "quarter", "stereo"])
def test_the_next_chunks_of_a_sound_are_that_sound(codec: Spectrum) -> None:
    """Though each is cut out of a window of its own: neither windows nor phases show a boundary."""
    whole = sound(codec, 9)
    heard = played(codec, [codec.split(example)[1] for example in examples(codec, whole)])
    # The second chunk's frames are the last whole ones of a window.
    begin = codec.signal_shape[1] - codec.config.n_fft - (codec.config.chunk - 1) * codec.config.hop
    filled = codec.config.n_fft  # the first frame fades in
    wanted = whole[..., begin + filled : begin + heard.shape[-1]]
    assert (heard[..., filled:] - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("codec", [CHUNKS, FINE, STEREO], ids=["half", "quarter", "stereo"])
def test_chunk_by_chunk_is_the_same_as_all_at_once(codec: Spectrum) -> None:
    spectra = [torch.randn(2, *codec.shape, generator=torch.manual_seed(i)) for i in range(5)]
    chunks = played(codec, spectra)
    at_once = played(codec, [torch.cat(spectra, dim=-1)])
    channels, samples = codec.signal_shape
    assert chunks.shape == (2, channels, 5 * samples // 2)
    assert (chunks - at_once).abs().max() < 1e-5


def test_the_previous_chunk_ends_where_the_next_one_begins() -> None:
    """The frames of the previous chunk in one window are those of the next one in the window before."""
    first, second = examples(CHUNKS, sound(CHUNKS, 3))
    past, _ = CHUNKS.split(second)
    _, last = CHUNKS.split(first)
    assert past.shape == (1, 2, 32, 15)
    assert CHUNKS.config.past == 15
    assert torch.allclose(past, last[..., -15:], atol=1e-5)


def test_the_way_back_is_that_of_a_whole_sound() -> None:
    """In the middle, where the latter has no edge, and with its frames centred on their times."""
    codec = replace(CONFIG, chunk=0).build((1, 31 * 32))
    x = torch.randn(1, *codec.shape, generator=torch.manual_seed(3)) / 4
    heard = played(CHUNKS, [x])[..., 32:]
    wanted = codec.decode(x)
    assert (heard[..., 32:900] - wanted[..., 32:900]).abs().max() < 1e-5


def test_silence_comes_before_the_first_chunk() -> None:
    x = torch.randn(1, *CHUNKS.shape, generator=torch.manual_seed(0))
    heard = played(CHUNKS, [x])
    assert heard[..., 0].abs().max() < 1e-6
    assert heard[..., :8].abs().max() < 0.2 * heard.abs().max()


def test_shapes_of_a_codec_of_chunks() -> None:
    assert CHUNKS.shape == (2, 32, 16)
    assert STEREO.shape == (128, 16)
    assert CHUNKS.chunked
    assert FINE.config.period == 4
    assert torch.equal(CHUNKS.encode(sound(CHUNKS, 2)), CHUNKS.split(sound(CHUNKS, 2))[1])


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="multiple of 2 frames of which the samples hold two, 1024, got 16 and 1000"):
        CONFIG.build((1, 1_000))
    with pytest.raises(ValueError, match="multiple of 4 frames"):
        replace(CONFIG, hop=16, chunk=14)
    with pytest.raises(ValueError, match="in order, by decode_next"):
        CHUNKS.decode(torch.zeros(1, *CHUNKS.shape))
    with pytest.raises(ValueError, match=r"two chunks have shape \[b, 1, 1024\], got \[1, 1, 512\]"):
        CHUNKS.split(sound(CHUNKS, 1))
    with pytest.raises(ValueError, match="it may encode whole signals"):
        SpectrumConfig().build((1, 16_000)).split(torch.zeros(1, 1, 16_000))
    with pytest.raises(ValueError, match="multiple of 2 frames, got 3"):
        played(CHUNKS, [torch.zeros(1, 2, 32, 3)])
