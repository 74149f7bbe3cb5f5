from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_files import make_bad, make_good, tone
from unistep.modalities.audio_reading import (
    PEAK,
    UnusableSoundError,
    decode_sound,
    fit_length,
    resample,
    to_int16,
)

RATE = 16_000


def decode(path, **options):
    return decode_sound(path, **{"sample_rate": RATE, "samples": RATE, **options})


def level(values):
    return np.abs(values.astype(np.int32)).max()


def pitch(values, rate=RATE):
    """Frequency of the strongest sine."""
    spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values)), 16 * len(values)))
    return spectrum.argmax() * rate / (16 * len(values))


@pytest.mark.parametrize("channels", [1, 2])
def test_every_kind_of_file_becomes_one_shape(tmp_path, channels):
    for name, note in make_good(tmp_path).items():
        sound = decode(tmp_path / name, channels=channels)
        assert sound.values.shape == (channels, RATE), name
        assert sound.values.dtype == np.int16, name
        assert level(sound.values) == round(PEAK * 32768), name
        assert bool(sound.notes) == bool(note), name
        mixed = channels == 1 and name in ("stereo.wav", "surround.flac")
        if name != "one_sample.wav" and not mixed:
            assert pitch(sound.values[0, : RATE // 5]) == pytest.approx(440, abs=2), name


def test_what_cannot_be_used_has_a_reason(tmp_path):
    reasons = make_bad(tmp_path)
    for name in ("dangling.wav", "pipe.wav"):  # what a folder finds out before a file is opened
        del reasons[name]
    for name, part in reasons.items():
        with pytest.raises(UnusableSoundError, match=part) as caught:
            decode(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_a_file_that_may_not_be_read_and_one_that_loses_its_way(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(size=20_000) / 8, RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnusableSoundError, match=r"^broken: flac decoder lost sync"):
        decode(tmp_path / "a.flac")

    def denied(path, *args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", denied)  # no mode keeps a superuser out
    with pytest.raises(UnusableSoundError, match=r"^cannot be read: Permission denied$"):
        decode(tmp_path / "a.flac")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "gone.wav", tmp_path):
        with pytest.raises(UnusableSoundError, match=r"No such file|not a sound|Is a directory"):
            decode(path)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_what_lies_below_half_of_either_rate(tmp_path, rate):
    """A sine keeps its frequency, phase and level; the error is below -70 dB away from the ends."""
    soundfile.write(tmp_path / "a.wav", tone(1, rate, frequency=1_000), rate, subtype="FLOAT")
    found = decode(tmp_path / "a.wav", loudness="keep").values[0] / 32768
    wanted = tone(1, RATE, frequency=1_000)[:, 0]
    middle = slice(1_000, RATE - 1_000)
    error = np.sqrt(np.mean((found - wanted)[middle] ** 2) / np.mean(wanted[middle] ** 2))
    assert 20 * np.log10(error) < -70


def test_resampling_lets_nothing_fold_over(tmp_path):
    """10 kHz cannot be in 16 kHz samples: it vanishes and does not come back as 6 kHz."""
    sound = tone(1, 48_000, frequency=10_000) + tone(1, 48_000, frequency=1_000, level=0.05)
    soundfile.write(tmp_path / "a.wav", sound, 48_000, subtype="FLOAT")
    found = decode(tmp_path / "a.wav", loudness="keep").values[0][1_000:-1_000] / 32768
    wanted = tone(1, RATE, frequency=1_000, level=0.05)[1_000:-1_000, 0]
    assert np.abs(found - wanted).max() < 1e-3


def test_silence_before_the_sound_is_dropped_and_its_rise_is_kept(tmp_path):
    quiet = np.random.default_rng(0).normal(size=(20 * RATE, 1)) * 1e-5
    soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, tone(1, RATE)]), RATE, subtype="FLOAT")
    found = decode(tmp_path / "a.wav").values[0]
    begins = int(np.argmax(np.abs(found) > 0.02 * level(found)))
    assert 0.003 * RATE <= begins <= 0.008 * RATE


def test_a_sound_that_is_cut_dies_away_and_a_short_one_is_padded(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(5, RATE), RATE)
    soundfile.write(tmp_path / "short.wav", tone(0.25, RATE), RATE)
    long, short = (decode(tmp_path / f"{name}.wav").values[0] for name in ("long", "short"))
    assert abs(int(long[-1])) < 100
    assert level(long[-800:-400]) > 25_000
    assert level(short[: RATE // 4]) > 25_000
    assert level(short[RATE // 4 + 10 :]) == 0


@pytest.mark.parametrize("loudness", ["peak", "keep"])
def test_the_loudness_rule(tmp_path, loudness):
    soundfile.write(tmp_path / "a.wav", tone(1, RATE, level=0.125), RATE)
    found = level(decode(tmp_path / "a.wav", loudness=loudness).values)
    assert found == pytest.approx(32768 * (PEAK if loudness == "peak" else 0.125), rel=1e-3)


def test_the_first_two_channels_of_six_may_be_silent(tmp_path):
    """As of a film whose speech is in the centre."""
    sound = np.zeros((RATE, 6), np.float32)
    sound[:, 2] = tone(1, RATE).reshape(-1)
    soundfile.write(tmp_path / "six.flac", sound, RATE)
    assert round(pitch(decode(tmp_path / "six.flac").values[0])) == 440
    with pytest.raises(UnusableSoundError, match="the two channels that are used are silent"):
        decode(tmp_path / "six.flac", channels=2)


def test_channels(tmp_path):
    soundfile.write(tmp_path / "two.wav", tone(1, RATE, channels=2), RATE)
    soundfile.write(tmp_path / "one.wav", tone(1, RATE), RATE)
    soundfile.write(tmp_path / "six.flac", tone(1, RATE, channels=6), RATE)
    mono = decode(tmp_path / "two.wav", loudness="keep").values[0].astype(np.float64) / 32768
    assert np.allclose(mono, tone(1, RATE, channels=2).mean(axis=1), atol=1e-3)
    left, right = decode(tmp_path / "one.wav", channels=2).values
    assert np.array_equal(left, right)
    left, right = decode(tmp_path / "six.flac", channels=2).values
    assert (round(pitch(left)), round(pitch(right))) == (440, 660)


def test_a_recording_of_two_hours_costs_what_one_of_half_a_minute_does(tmp_path):
    """Only what is used is read: 2 h of 8 kHz would be 230 MB as floating numbers."""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        minute = np.concatenate([tone(1, 8_000), np.zeros((59 * 8_000, 1))])
        for _ in range(120):
            file.write(minute)
    tracemalloc.start()
    sound = decode(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "longer than wanted: only its beginning is used" in sound.notes
    assert peak < 10 * 2**20


def test_a_wanted_length_beyond_the_first_look_is_read_on(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(40, 8_000), 8_000)
    found = decode(tmp_path / "a.flac", sample_rate=8_000, samples=38 * 8_000).values[0]
    assert level(found[-8_000:-800]) > 25_000


def test_fit_length():
    sound = np.ones((100, 2), np.float32)
    assert fit_length(sound, 150, 1_000)[100:].max() == 0
    cut = fit_length(sound, 50, 1_000)
    assert cut.shape == (50, 2)
    assert (cut[0, 0], cut[39, 0], cut[49, 0]) == (1, 1, 0)
    assert np.array_equal(fit_length(sound, 100, 1_000), sound)
    assert sound.min() == 1  # the original is left alone


def test_to_int16_clips_what_is_kept_too_loud():
    loud = np.array([[2.0], [-2.0], [0.5]], np.float32)
    assert to_int16(loud, "keep").tolist() == [[32767, -32768, 16384]]
    assert to_int16(loud, "peak").tolist() == [[round(PEAK * 32768), -round(PEAK * 32768), round(PEAK * 32768 / 4)]]
    with pytest.raises(UnusableSoundError, match="silent"):
        to_int16(np.full((10, 1), 1e-6), "peak")


def test_resample_keeps_the_length():
    assert resample(tone(1, 44_100).astype(np.float32), 44_100, RATE).shape == (RATE, 1)
