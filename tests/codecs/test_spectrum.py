"""Spectra of compressed amplitude: exact inverse, slow phases, finite gradients, a scale from the data."""

from __future__ import annotations

import pytest
import torch

from unistep.codecs.base import UnfitShapeError
from unistep.codecs.spectrum import SpectrumConfig

SECOND = (1, 16_000)
MONO = SpectrumConfig().build(SECOND)
STEREO = SpectrumConfig().build((2, 7_001))


def sounds(count: int, channels: int = 1, samples: int = 16_000) -> torch.Tensor:
    """Noise that dies away over a hum."""
    hum = torch.sin(torch.arange(samples) * 0.05)
    noise = torch.randn(count, channels, samples) * torch.linspace(1, 0, samples) ** 2
    return (0.3 * hum + 0.2 * noise).clamp(-1, 1)


def snr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Signal to noise in decibels."""
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


def test_shapes():
    assert MONO.shape == (2, 256, 64)
    assert STEREO.shape == (4, 256, 32)
    assert SpectrumConfig().shape((1, 1)) == (2, 256, 16)
    assert SpectrumConfig(multiple=1).frames(1) == 2
    assert SpectrumConfig(dims=1).shape(SECOND) == (512, 64)
    assert SpectrumConfig(dims=1).shape((2, 16_000)) == (1024, 64)
    assert not MONO.chunked


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_fft": 511}, "n_fft must be even"),
        ({"hop": 257}, "hop at most half of it, got 512 and 257"),
        ({"exponent": 0.0}, r"exponent must be in \(0, 1\]"),
        ({"scale": float("inf")}, "scale positive"),
        ({"dims": 3}, r"dims must be 1 \(frequencies are channels\) or 2"),
        ({"multiple": 0}, "multiple must be at least 1"),
    ],
)
def test_wrong_fields_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        SpectrumConfig(**wrong)


def test_a_spectrum_too_large_to_hold_is_refused():
    with pytest.raises(ValueError, match="at most 1,073,741,824 values"):
        SpectrumConfig().shape((1, 2**30))
    with pytest.raises(ValueError, match=r"signals \[channels, samples\], got the shape \[3, 8, 8\]"):
        SpectrumConfig().shape((3, 8, 8))


def test_the_scale_comes_from_the_data_and_the_frames_from_the_network():
    config = SpectrumConfig(n_fft=64, hop=32).fitted((1, 2_000), dims=1, multiples=(4,))
    assert config.shape((1, 2_000)) == (64, 64)
    x = sounds(8, 1, 2_000)
    scaled = config.calibrated(iter(x.split(3)), 0.5)
    assert float(scaled.build((1, 2_000)).encode(x).std()) == pytest.approx(0.5, rel=0.01)
    with pytest.raises(ValueError, match="silent"):
        config.calibrated(iter([torch.zeros(1, 1, 2_000)]), 0.5)
    with pytest.raises(ValueError, match="half of n_fft to be a multiple of 24, got 64"):
        config.fitted((1, 2_000), dims=2, multiples=(24,))
    with pytest.raises(UnfitShapeError, match="2000 samples are not two chunks") as caught:
        SpectrumConfig(n_fft=64, hop=32, chunk=2).fitted((1, 2_000), dims=1, multiples=(4,))
    assert caught.value.nearest == (1, 2_048)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [1, 255, 16_000, 30_011])
@pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (512, 128), (1024, 300), (256, 64)])
def test_the_spectrum_there_and_back_is_above_60_decibels(channels, samples, n_fft, hop):
    codec = SpectrumConfig(n_fft=n_fft, hop=hop).build((channels, samples))
    x = sounds(3, channels, samples)
    spectrum = codec.encode(x)
    assert tuple(spectrum.shape) == (3, *codec.shape)
    assert snr(codec.decode(spectrum), x) > 60


@pytest.mark.parametrize("exponent", [0.25, 0.65, 1.0])
def test_every_exponent_has_its_inverse(exponent):
    codec = SpectrumConfig(exponent=exponent, scale=2.0).build(SECOND)
    x = sounds(2)
    assert snr(codec.decode(codec.encode(x)), x) > 60


@pytest.mark.parametrize("channels", [1, 2])
def test_for_networks_of_one_dimension_frequencies_are_channels(channels):
    flat, planes = (SpectrumConfig(dims=dims).build((channels, 9_000)) for dims in (1, 2))
    x = sounds(2, channels, 9_000)
    assert torch.equal(flat.encode(x), planes.encode(x).flatten(1, 2))
    assert snr(flat.decode(flat.encode(x)), x) > 60


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (512, 128), (512, 200)])
def test_phases_turn_slowly(n_fft, hop):
    """A sine of a bin's own frequency stands still, and one a quarter of a bin above turns by its difference."""
    codec = SpectrumConfig(n_fft=n_fft, hop=hop).build(SECOND)
    t = torch.arange(16_000) / 16_000
    for k, above in ((21, 0.0), (40, 0.25)):
        sine = torch.sin(2 * torch.pi * (k + above) * 16_000 / n_fft * t + 1)[None, None]
        real, imaginary = codec.encode(sine)[0, :, k, 5:20]
        turned = torch.atan2(imaginary, real).diff().remainder(2 * torch.pi)
        wanted = 2 * torch.pi * above * hop / n_fft
        assert torch.allclose((turned - wanted + 3).remainder(2 * torch.pi) - 3, torch.zeros(14), atol=0.02)


def test_silence_stays_silence_and_has_finite_gradients():
    x = torch.zeros(1, 1, 16_000, requires_grad=True)
    y = MONO.decode(MONO.encode(x))
    y.sum().backward()
    assert y.abs().max() < 1e-6
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_sine_of_full_scale_has_the_stated_magnitude():
    """Bin 32 of 512 at 16 kHz is 1 kHz: its compressed magnitude is scale, whatever its phase; others are less."""
    t = torch.arange(16_000) / 16_000
    for phase in (0.0, 1.0, 2.5):
        spectrum = MONO.encode(torch.sin(2 * torch.pi * 1_000 * t + phase)[None, None])[0]
        magnitude = torch.hypot(spectrum[0], spectrum[1])[:, 5:-5]
        assert torch.allclose(magnitude[32], torch.full_like(magnitude[32], MONO.config.scale), rtol=1e-3)
        assert (magnitude.argmax(dim=0) == 32).all()


def test_half_the_sampling_rate_and_zero_share_a_row():
    alternating = torch.ones(1, 1, 16_000)
    alternating[..., 1::2] = -1
    for x, plane in ((torch.ones(1, 1, 16_000), 0), (alternating, 1)):
        spectrum = MONO.encode(x * 0.5)[0, :, :, 5:-5]
        assert spectrum[plane, 0].abs().min() > 3
        assert spectrum[1 - plane, 0].abs().max() < 0.2
        assert snr(MONO.decode(MONO.encode(x * 0.5)), x * 0.5) > 60


def test_channels_do_not_mix():
    x = sounds(1, 2, 7_001)
    silent = torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], dim=1)
    spectrum = STEREO.encode(silent)
    assert spectrum[:, 2:].abs().max() < 1e-3
    assert STEREO.decode(spectrum)[:, 1].abs().max() < 1e-6


def test_planes_that_are_no_spectrum_give_the_nearest_sound():
    """Noise in, a finite sound in [-1, 1] out; and the spectrum of that sound is reproduced."""
    x = MONO.decode(torch.randn(2, *MONO.shape) * 4)
    assert tuple(x.shape) == (2, 1, 16_000)
    assert x.abs().max() <= 1
    assert snr(MONO.decode(MONO.encode(x)), x) > 60


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\[b, 1, 16000\], got \[2, 1, 8000\]"):
        MONO.encode(torch.zeros(2, 1, 8_000))
    with pytest.raises(ValueError, match=r"\[b, 2, 256, 64\], got \[2, 2, 256, 48\]"):
        MONO.decode(torch.zeros(2, 2, 256, 48))
