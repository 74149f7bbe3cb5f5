"""Long recordings in windows: all of each, nothing twice as long, no silence, and every broken file named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_files import make_bad, make_good, tone
from unistep.data import data_config, prepare
from unistep.data.sources.limits import shares
from unistep.modalities import audio_reading as sound


def windows_of(folder: Path, **options):
    settings = {"modality": "audio", "cut": "windows", "seconds": 0.5, "sample_rate": 8_000, **options}
    return prepare(data_config(f"folder:{folder}", **settings), progress=False)


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_windows_cover_a_recording_each_half_over_the_last(place, monkeypatch):
    monkeypatch.setattr(sound, "_BLOCK", 0.3)  # so that windows span several reads
    ramp = np.linspace(0.1, 0.5, 8_000 * 3)[:, None]
    soundfile.write(place / "long.wav", ramp, 8_000, subtype="PCM_16")
    dataset = windows_of(place, loudness="keep")
    assert dataset.values.shape == (11, 1, 4_000)
    whole, _ = soundfile.read(place / "long.wav", dtype="int16")
    for i, values in enumerate(dataset.values[:, 0]):
        assert np.array_equal(values, whole[2_000 * i : 2_000 * i + 4_000])


def test_a_recording_is_stored_once_and_windows_move_in_training(place):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000 * 3)
    soundfile.write(place / "long.wav", noise, 8_000, subtype="PCM_16")
    dataset = windows_of(place, loudness="keep")
    stored = sum(path.stat().st_size for path in dataset.path.glob("values.npy"))
    assert stored < 2 * 24_000 + 1_000  # the windows of the grid have 44,000 samples
    whole, _ = soundfile.read(place / "long.wav", dtype="int16")
    starts = set()
    for seed in range(40):
        values = dataset.batch([4], [seed])[0][0, 0].numpy()
        (begin,) = (i for i in np.flatnonzero(whole == values[0]) if whole[i + 1] == values[1])
        starts.add(begin)
        assert np.array_equal(values, whole[begin : begin + 4_000])
        assert abs(begin - 8_000) <= 1_000
    assert len(starts) > 10
    assert torch.equal(dataset.batch([4], [7])[0], dataset.batch([3, 4], [9, 7])[0][1:])
    for index in (0, 10):  # the first and the last do not leave the recording
        assert all(dataset.batch([index], [seed])[0].shape == (1, 1, 4_000) for seed in range(20))


def test_loudness_is_that_of_the_whole_recording(place):
    quiet = np.concatenate([tone(1, 8_000, level=0.02), tone(1, 8_000, level=0.2)])
    soundfile.write(place / "two.wav", quiet, 8_000)
    loudest = np.abs(np.asarray(windows_of(place).values, int)).max(axis=(1, 2)) / 32_768
    assert loudest[0] == pytest.approx(sound.PEAK / 10, rel=0.02)
    assert loudest[-1] == pytest.approx(sound.PEAK, rel=0.01)


def test_silent_windows_are_left_out_and_short_recordings_come_last(place):
    pause = np.concatenate([tone(1, 8_000), np.zeros((16_000, 1)), tone(1, 8_000)])
    soundfile.write(place / "pause.wav", pause, 8_000)
    soundfile.write(place / "short.wav", tone(0.2, 8_000), 8_000)
    dataset = windows_of(place)
    assert len(dataset) == 5 + 4 + 1 - 1  # a window that is half silent stays; the short file is one
    assert all(values.any() for values in dataset.values)
    assert not dataset.values[-1, 0, :2_400].any()
    assert np.abs(dataset.values[-1, 0, 2_400:].astype(int)).max() > 20_000
    assert dict(dataset.summary.notes) == {
        "has quiet passages: windows of them left out": 1,
        "shorter than a window: silence put ahead of it": 1,
    }


def test_a_limit_is_one_of_loud_windows(place):
    pause = np.concatenate([tone(1, 8_000), np.zeros((8_000 * 40, 1)), tone(1, 8_000)])
    soundfile.write(place / "pause.wav", pause, 8_000)
    for limit, expected in ((4, 4), (100, 8)):
        assert len(windows_of(place, limit=limit)) == expected


def test_a_clipped_or_dull_recording_is_remarked_on_once(place):
    late = np.concatenate([tone(11, 8_000), tone(1, 8_000) * 100])  # beyond what is read at once
    soundfile.write(place / "long.wav", np.clip(late, -1, 1), 8_000)
    summary = windows_of(place, sample_rate=16_000).summary
    assert dict(summary.notes) == {sound.CLIPPED: 1, sound.NO_TREBLE: 1}


@pytest.mark.parametrize("rate", [8_000, 44_100, 22_050])
def test_the_last_whole_window_is_not_lost_to_rounding(place, rate):
    for count in (3, 7, 15):
        soundfile.write(place / f"{count}.wav", tone(1, rate, level=0.5).repeat(count, axis=0), rate)
    dataset = windows_of(place, sample_rate=rate, seconds=0.5)
    assert len(dataset) == sum(4 * count - 1 for count in (3, 7, 15))


def test_what_is_loud_only_where_no_window_fits_is_named(place):
    late = np.concatenate([np.zeros((8_000, 1)), tone(0.1, 8_000)])
    soundfile.write(place / "late.wav", late, 8_000)
    with pytest.raises(ValueError, match=r"late.wav \(silent, except for an end that is shorter than a window\)"):
        windows_of(place)


def test_broken_recordings_are_counted_as_files(place):
    soundfile.write(place / "long.wav", tone(20, 8_000), 8_000)
    for number in range(3):
        (place / f"broken{number}.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="too many unusable sounds"):
        windows_of(place)
    assert len(windows_of(place, max_bad=0.8)) == 79


def test_another_rate_and_stereo_are_as_if_resampled_whole(place, monkeypatch):
    monkeypatch.setattr(sound, "_BLOCK", 0.3)
    whole = tone(2, 44_100, channels=2, frequency=500)
    soundfile.write(place / "cd.flac", whole, 44_100)
    dataset = windows_of(place, channels=2, loudness="keep")
    assert dataset.values.shape[1:] == (2, 4_000)
    wanted = sound.quantise(sound.resample(whole.astype(np.float32), 44_100, 8_000)).T
    for i, values in enumerate(dataset.values[1:-1], start=1):
        part = wanted[:, 2_000 * i : 2_000 * i + 4_000]
        assert np.abs(values.astype(int) - part).max() < 20


def test_labels_limits_and_broken_files(tmp_path):
    folder = tmp_path / "mine"
    good, bad = make_good(folder), make_bad(folder)
    dataset = windows_of(folder, max_bad=0.9, sample_rate=16_000)
    assert {item.name for item in dataset.summary.skipped if item.bad} == set(bad) - {"too_late.wav"}  # heard later
    assert len(dataset) > len(good)
    limited = windows_of(folder, max_bad=0.9, sample_rate=16_000, limit=12)
    assert 0 < len(limited) <= 12
    for label in ("rain", "sea"):
        (tmp_path / "both" / label).mkdir(parents=True)
        soundfile.write(tmp_path / "both" / label / "a.wav", tone(1, 8_000), 8_000)
    assert windows_of(tmp_path / "both").label_names == ("rain", "sea")


def test_the_beginning_and_the_windows_are_cached_apart(place):
    soundfile.write(place / "long.wav", tone(3, 8_000), 8_000)
    assert len(windows_of(place)) == 11
    assert len(windows_of(place, cut="start")) == 1
    with pytest.raises(ValueError, match="cut must be start"):
        data_config("folder:x", cut="window")


@pytest.mark.parametrize(
    ("counts", "limit", "wanted"),
    [
        ([5, 1], None, [5, 1]),
        ([5, 1], 6, [5, 1]),
        ([100, 1, 1], 20, [18, 1, 1]),
        ([7, 3, 3], 7, [3, 2, 2]),
        ([4, 4, 4, 4], 2, [1, 0, 1, 0]),
    ],
)
def test_a_limit_leaves_something_of_each_recording(counts, limit, wanted):
    found = shares(counts, limit)
    assert found == wanted
    assert sum(found) == min(limit or sum(counts), sum(counts))
    assert all(0 <= share <= count for share, count in zip(found, counts, strict=True))


def test_short_recordings_keep_their_labels_under_a_limit(tmp_path):
    for label, seconds in (("a", 60), ("b", 2)):
        (tmp_path / "mine" / label).mkdir(parents=True)
        soundfile.write(tmp_path / "mine" / label / "x.wav", tone(seconds, 8_000), 8_000)
    assert dict(windows_of(tmp_path / "mine", limit=20).summary.classes) == {"a": 18, "b": 2}


def test_bad_files_are_counted_alike_in_a_new_and_in_an_old_cache(place):
    soundfile.write(place / "long.wav", tone(20, 8_000), 8_000)
    (place / "broken.wav").write_bytes(b"RIFF")
    assert len(windows_of(place, max_bad=0.9)) == 79
    with pytest.raises(ValueError, match="1 of 2 looked at"):
        windows_of(place)
