from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from audio_files import make_bad, make_good, make_others, tone
from unistep.data import data_config, prepare
from unistep.data.sources import drums, spoken_digits
from unistep.data.sources.drums import KINDS, kind_of_drum
from unistep.modalities import audio_reading as sound


def sounds_of(source: str | Path, **options):
    name = f"folder:{source}" if isinstance(source, Path) else source
    return prepare(data_config(name, **options), progress=False)


@pytest.fixture
def mixed(tmp_path):
    """Sounds of every kind, more than half of them usable."""
    folder = tmp_path / "mixed"
    return folder, make_good(folder), make_bad(folder), make_others(folder)


@pytest.fixture
def place(tmp_path):
    """An empty folder; the cache lies beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_every_kind_of_file_is_used_or_skipped_by_name(mixed):
    folder, good, bad, others = mixed
    before = {path: os.lstat(path).st_mtime_ns for path in folder.rglob("*")}
    dataset = sounds_of(folder, max_bad=0.6)
    summary = dataset.summary
    assert dataset.values.shape == (len(good), 1, 16_000)
    assert dataset.values.dtype == np.int16
    skipped = {item.name: item.reason for item in summary.skipped if item.bad}
    assert skipped.keys() == bad.keys()
    for name, part in bad.items():
        assert part in skipped[name], name
    assert {item.name for item in summary.skipped if not item.bad} == others
    for part in ("lower rate", "clipped", "shorter", "longer"):
        wanted = [name for name, note in good.items() if note == part]
        note = next(note for note, _ in summary.notes if part in note)
        assert dict(summary.notes)[note] == len(wanted), part
        assert set(dict(summary.examples)[note]) == set(sorted(wanted)[:3]), part
    assert {path: os.lstat(path).st_mtime_ns for path in folder.rglob("*")} == before  # never touched


def test_a_printed_summary_names_the_files(mixed):
    folder, *_ = mixed
    text = str(sounds_of(folder, max_bad=0.6).summary)
    assert "sounds of 1 s, 16,000 Hz, mono" in text
    assert "clipped: used as it is: 1 (clipped.wav)" in text
    assert "damaged.flac: broken" in text


def test_too_many_bad_sounds_stop_it_with_reasons(mixed):
    folder, *_ = mixed
    with pytest.raises(ValueError, match="too many unusable sounds") as caught:
        sounds_of(folder)
    assert "remove them, or allow more" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_good_sound_names_the_first(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 1)), 16_000)
    with pytest.raises(ValueError, match=r"no usable sound: a\.wav \(silent\)"):
        sounds_of(tmp_path, max_bad=1.0)


def test_rate_length_channels_and_loudness_are_those_asked_for(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(2, 48_000, channels=2, level=0.25), 48_000)
    dataset = sounds_of(tmp_path, modality="audio", sample_rate=24_000, seconds=0.5, channels=2, loudness="keep")
    assert dataset.values.shape == (1, 2, 12_000)
    assert dataset.summary.each == "0.5 s, 24,000 Hz, stereo"
    left, right = dataset.values[0].astype(np.float64) / 32768
    assert np.abs(np.fft.rfft(left)).argmax() == 440 // 2  # bins of half a second lie 2 Hz apart
    assert np.abs(np.fft.rfft(right)).argmax() == 660 // 2
    assert np.abs(left).max() == pytest.approx(0.25, rel=0.01)
    assert np.abs(sounds_of(tmp_path, loudness="peak").values).max() == round(sound.PEAK * 32768)


def test_the_modality_of_most_files_is_taken_unless_one_is_named(place):
    for i in range(3):
        soundfile.write(place / f"{i}.wav", tone(0.1, 16_000), 16_000)
    Image.new("RGB", (8, 8), "red").save(place / "cover.png")
    assert sounds_of(place).modality.sample_rate == 16_000
    assert sounds_of(place).summary.other == 1
    assert sounds_of(place, modality="image").values.shape == (1, 3, 32, 32)


def test_subfolders_are_labels(tmp_path):
    for name, count in (("snare", 2), ("kick", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            soundfile.write(tmp_path / name / f"{i}.wav", tone(0.1, 16_000), 16_000)
    dataset = sounds_of(tmp_path)
    assert dataset.label_names == ("kick", "snare")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 1]


def test_the_options_of_sounds_make_caches_of_their_own(place):
    soundfile.write(place / "a.wav", tone(1, 16_000), 16_000)
    options = [{}, {"seconds": 0.5}, {"sample_rate": 8_000}, {"loudness": "keep"}, {"modality": "audio", "channels": 2}]
    found = [sounds_of(place, **each) for each in options]
    assert len({dataset.path for dataset in found}) == len({dataset.fingerprint for dataset in found}) == len(options)
    assert sounds_of(place).path == found[0].path
    assert sounds_of(place, seconds=1.0, channels=1, sample_rate=16_000).path == found[0].path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_rate": 10}, "sample_rate must be from 1000 to 192000 Hz, got 10"),
        ({"seconds": 0.0}, "seconds must be from 0.01 to 600, got 0"),
        ({"loudness": "loud"}, "loudness must be peak or keep, got 'loud'"),
        ({"modality": "song"}, "unknown modality 'song'; .*valid: .*image"),
        ({"modality": "audio", "channels": 3}, r"1 \(mono\) or 2 \(stereo\), got 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        data_config("folder:x", **options)


def test_three_channels_of_a_sound_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1, 16_000), 16_000)
    with pytest.raises(ValueError, match=r"1 \(mono\) or 2 \(stereo\), got 3"):
        sounds_of(tmp_path, channels=3)


def test_without_the_libraries_the_command_that_installs_them_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(1, 16_000), 16_000)
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ValueError, match=r"pip install 'unistep\[audio\]'"):
        sounds_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bd_haus.flac", "kick"),
        ("HardHse_K_02.flac", "kick"),
        ("SN3_01.aiff", "snare"),
        ("SnareOffRim-0.wav", "snare"),
        ("122557__anillogic__trimo-c3.wav", None),
        ("RimClick-0.wav", "rim"),
        ("drum_cymbal_closed.flac", "hihat"),
        ("PaisteBell-Soft.wav", "cymbal"),
        ("RD2_01.aiff", "cymbal"),
        ("t1_01.flac", "tom"),
        ("TM_08.aiff", "tom"),
        ("CB2_01.aiff", "bell"),
        ("Dununba1 Bell.wav", "bell"),
        ("Dununba1 Head Hit.wav", "hand drum"),
        ("Tambourine-0.wav", "shaker"),
        ("emptySample.flac", None),
        ("ambi_choir.flac", None),
    ],
)
def test_drums_are_sorted_by_their_names(name, kind):
    assert kind_of_drum(name) == kind


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two packages of drums, one permissive, and the digits of a language, where the system would have them."""
    for folder, names in (("free", ["bd_a", "sn_b", "pad_c"]), ("bound", ["crash_1", "kick_2"])):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            soundfile.write(tmp_path / folder / f"{name}.flac", tone(0.2, 22_050, frequency=200 + 50 * i), 22_050)
    collections = (
        drums.Collection(package="p", folder=tmp_path / "free", licence="CC0 (p)", without=("kick_9.flac",)),
        drums.Collection(package="q", folder=tmp_path / "bound", licence="GPL-2 (q)"),
        drums.Collection(package="r", folder=tmp_path / "gone", licence="CC0 (r)"),
    )
    monkeypatch.setattr(drums, "DRUMS", collections)
    monkeypatch.setattr(spoken_digits, "_DIGITS", tmp_path / "voices")
    digits = tmp_path / "voices" / "it_IT_m_Carlo" / "digits"
    digits.mkdir(parents=True)
    for digit in range(10):
        soundfile.write(digits / f"{digit}.wav", tone(0.3, 8_000, frequency=300 + 20 * digit), 8_000)


def test_drums_come_with_their_classes_and_the_licences_of_those_that_are_there(installed):
    dataset = sounds_of("drums")
    assert dict(dataset.summary.classes) == {"cymbal": 1, "kick": 2, "snare": 1}
    assert dataset.licence == "CC0 (p); GPL-2 (q)"
    permissive = sounds_of("drums:permissive")
    assert dict(permissive.summary.classes) == {"kick": 1, "snare": 1}
    assert permissive.licence == "CC0 (p)"
    assert set(dataset.label_names) <= set(KINDS)


def test_tuned_drums_come_once_for_each_tuning(installed):
    dataset = sounds_of("drums:permissive:tuned", seconds=0.3)
    assert dict(dataset.summary.classes) == {"kick": 7, "snare": 7}
    kicks = dataset.values[np.asarray(dataset.labels) == 0][:, 0].astype(float)
    heard = [np.abs(np.fft.rfft(kick, 2**16)).argmax() * 16_000 / 2**16 for kick in kicks]
    assert heard == pytest.approx([200 * 2 ** (tuning / 12) for tuning in drums.TUNINGS], rel=0.01)
    assert dataset.fingerprint != sounds_of("drums:permissive", seconds=0.3).fingerprint


def test_spoken_digits_come_with_their_licence(installed):
    for source in ("spoken-digits", "spoken-digits:it"):
        dataset = sounds_of(source)
        assert dataset.label_names == tuple("0123456789")
        assert dataset.licence == "CC-BY-3.0 (Carlo Flora)"
        assert len(dataset) == 10


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("drums", "drums needs Debian's package sonic-pi-samples, which is not installed: apt-get install sonic-pi"),
        ("spoken-digits", "apt-get install asterisk-core-sounds-en-wav"),
        ("spoken-digits:fr", "apt-get install asterisk-core-sounds-fr-wav"),
        ("drums:free", "drums has permissive and tuned, got 'free'"),
        ("spoken-digits:xx", "has the languages en, es, fr, it, ru, got 'xx'"),
        ("drum", "did you mean 'drums'"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_to_do(source, words, tmp_path, monkeypatch):
    monkeypatch.setattr(drums, "DRUMS", drums.DRUMS[:0])
    monkeypatch.setattr(spoken_digits, "_DIGITS", tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        sounds_of(source)
    assert "\n" not in str(caught.value)


def test_shipped_drums_are_known_by_where_they_lie():
    """Every collection names a package, a folder of its own, and a licence that begins with the licence's name."""
    assert len({collection.folder for collection in drums.DRUMS}) == len(drums.DRUMS)
    for collection in drums.DRUMS:
        assert collection.licence.partition(" (")[0].split("-")[0] in ("CC0", "CC", "GPL")
