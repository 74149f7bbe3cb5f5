"""Labelled notes: the excerpt that ships, and rendering by a stand-in for FluidSynth that plays sines."""

from __future__ import annotations

import io
from dataclasses import replace

import mido
import numpy as np
import pytest

from synth import install_synth
from unistep.data import DataConfig, data_config, prepare
from unistep.data.sources import notes
from unistep.data.sources.general_midi import GENERAL_MIDI
from unistep.data.sources.notes import HIGHEST, LOWEST, PROGRAMS, Note, all_notes, midi_file, render
from unistep.data.sources.soundfont import FONTS


@pytest.fixture
def synth(tmp_path, monkeypatch):
    """The stand-in for FluidSynth, and its font."""
    return install_synth(tmp_path, monkeypatch)


def notes_of(source, **options):
    return prepare(data_config(source, **options), progress=False)


def hertz(pitch):
    return 440 * 2 ** ((pitch - 69) / 12)


def strongest(sound, rate):
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound))).argmax() * rate / (8 * len(sound))


def test_the_excerpt_is_labelled_and_has_a_licence():
    dataset = notes_of("notes:excerpt")
    assert dataset.values.shape == (16, 1, 16_000)
    assert list(dataset.fields) == ["instrument", "pitch", "velocity"]
    assert set(dataset.condition["pitch"] + LOWEST) == {48, 60, 67, 76}
    assert set(dataset.condition["velocity"]) == {96}
    assert len(set(dataset.condition["instrument"])) == 4
    assert dataset.licence.startswith("MIT")
    assert dataset.labels is None


def test_the_pitches_of_the_excerpt_are_what_is_said_of_them():
    """By autocorrelation of the middle of each note, within a quarter tone."""
    dataset = notes_of("notes:excerpt")
    for values, pitch in zip(dataset.values[:, 0], dataset.condition["pitch"] + LOWEST, strict=True):
        x = values[2_000:6_096].astype(np.float64)
        power = np.abs(np.fft.rfft(x - x.mean(), 2 * len(x))) ** 2
        lags = np.fft.irfft(power)[: len(x) // 2] / np.arange(len(x), len(x) - len(x) // 2, -1)
        first = int(np.argmax(lags < 0))
        good = np.flatnonzero(lags[first:] > 0.9 * lags[first:].max()) + first  # the first of its equal peaks
        lag = good[0] + int(np.argmax(lags[good[0] : good[0] + 8]))
        assert 12 * np.log2(16_000 / lag / hertz(pitch)) == pytest.approx(0, abs=0.5)


def test_the_excerpt_at_another_rate_length_and_in_stereo():
    dataset = notes_of("notes:excerpt", sample_rate=8_000, seconds=0.5, channels=2)
    assert dataset.values.shape == (16, 2, 4_000)
    assert np.array_equal(dataset.values[:, 0], dataset.values[:, 1])


def test_a_midi_file_is_read_by_an_independent_library():
    some = [Note(instrument="flute", pitch=p, velocity=v, held=0.5) for p, v in ((60, 100), (72, 40), (48, 127))]
    file = mido.MidiFile(file=io.BytesIO(midi_file(some, 1.0, 1300)))
    now, heard = 0.0, []
    for message in file:
        now += message.time
        if not message.is_meta:
            heard.append((round(now, 6), message.type, message.bytes()[1:]))
    assert heard[0] == (0.0, "program_change", [PROGRAMS["flute"]])
    for i, note in enumerate(some):
        on, off, cut = heard[1 + 3 * i : 4 + 3 * i]
        assert on == (pytest.approx(1.3 * i), "note_on", [note.pitch, note.velocity])
        assert off == (pytest.approx(1.3 * i + 0.5), "note_off", [note.pitch, 0])
        assert cut == (pytest.approx(1.3 * i + 1), "control_change", [120, 0])
    assert file.length == pytest.approx(3.9)


def test_every_note_is_cut_out_where_it_begins(tmp_path, monkeypatch):
    synth = install_synth(tmp_path, monkeypatch, process=True)
    some = [Note(instrument="synth", pitch=p, velocity=v, held=0.5) for p, v in ((60, 127), (72, 32), (84, 64))]
    stereo = render(some, synth, 0.5, 2)
    assert stereo.shape == (3, 24_000, 2)
    for sound, note in zip(stereo, some, strict=True):
        assert strongest(sound[:9_600, 0], 48_000) == pytest.approx(hertz(note.pitch), rel=0.01)
        assert np.abs(sound[:, 0]).max() == pytest.approx(2 * note.velocity / 127 / 4, rel=0.01)
        assert np.abs(sound[9_700:]).max() == pytest.approx(0.1 * np.abs(sound).max(), rel=0.01)
        assert np.abs(sound[:20, 0]).max() > 0
    assert np.allclose(render(some, synth, 0.5, 1)[..., 0], stereo.mean(axis=2), atol=1e-6)


def test_a_limited_set_is_spread_over_everything_and_its_labels_are_right(synth):
    dataset = notes_of("notes", limit=60, seconds=0.25)
    assert dataset.values.shape == (60, 1, 4_000)
    assert len(set(dataset.condition["instrument"])) == len(PROGRAMS)
    for values, pitch, velocity in zip(
        dataset.values[:, 0], dataset.condition["pitch"], dataset.condition["velocity"], strict=True
    ):
        assert strongest(values[:3_200].astype(float), 16_000) == pytest.approx(hertz(pitch + LOWEST), rel=0.02)
        loud = np.abs(values.astype(int)).max() / 32_768
        assert velocity / 127 / 4 * 0.98 <= loud <= velocity / 127 / 2 * 1.02  # mono is the mean of both sides
    assert dataset.summary.source == "notes:train"
    assert dataset.licence.startswith("MIT")


def test_some_of_the_instruments_keep_their_numbers(synth, monkeypatch):
    monkeypatch.setattr(notes, "HIGHEST", 49)
    dataset = notes_of("notes:flute,organ:test", seconds=0.25)
    assert len(dataset) == 2 * 2 * 4 * 2
    assert dataset.summary.source == "notes:organ,flute:test"
    names = dataset.fields["instrument"].names
    assert {names[i] for i in dataset.condition["instrument"]} == {"organ", "flute"}
    assert names == tuple(PROGRAMS)


def test_all_instruments_of_general_midi(synth, monkeypatch):
    monkeypatch.setattr(notes, "HIGHEST", 49)
    dataset = notes_of("notes:general", limit=128 * 2, seconds=0.25)
    field = dataset.fields["instrument"]
    assert field.size == 128
    assert set(dataset.condition["instrument"]) == set(range(128))
    assert dataset.summary.source == "notes:general:train"
    assert set(PROGRAMS) & set(GENERAL_MIDI) == {"vibraphone", "marimba", "trumpet", "clarinet", "flute"}
    assert all(GENERAL_MIDI[PROGRAMS[name]] == name for name in set(PROGRAMS) & set(GENERAL_MIDI))
    some = notes_of("notes:general:violin,kalimba:test", limit=8, seconds=0.25)
    assert some.summary.source == "notes:general:violin,kalimba:test"
    assert {field.names[i] for i in some.condition["instrument"]} == {"violin", "kalimba"}
    with pytest.raises(
        ValueError, match=r"timgm6mb, acoustic-grand-piano, .*, \.\.\. gunshot, got 'violn'; did you mean 'violin'"
    ):
        notes_of("notes:general:violn")


def test_the_parts_share_no_note():
    train, test = (all_notes(split, 1.0) for split in ("train", "test"))
    assert {note.velocity for note in train}.isdisjoint(note.velocity for note in test)
    for part in (train, test):
        assert {note.instrument for note in part} == set(PROGRAMS)
        assert {note.pitch for note in part} == set(range(LOWEST, HIGHEST + 1))
        assert len(set(part)) == len(part)
    assert len(PROGRAMS) >= 8
    assert HIGHEST - LOWEST >= 36


@pytest.mark.parametrize("part", ["notes:test", "notes:timgm6mb", "notes:test:timgm6mb"])
def test_a_part_and_a_font_are_chosen_by_name(part, synth, monkeypatch):
    monkeypatch.setitem(FONTS, "timgm6mb", replace(FONTS["timgm6mb"], path=synth.path))
    dataset = notes_of(part, limit=20, seconds=0.25)
    assert dataset.licence.startswith("GPL-2" if "timgm6mb" in part else "MIT")
    assert (set(dataset.condition["velocity"]) <= set(notes.VELOCITIES["test"])) == ("test" in part)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "notes:tset",
            "notes has train, test, fluid, .*, excerpt, general, got 'tset'; did you mean 'test'",
        ),
        ("notes:piano,flut", "got 'piano,flut'"),
        ("notes:fluid:valid", "got 'valid'"),
        ("note", "did you mean 'notes'"),
    ],
)
def test_an_unknown_part_is_one_line(source, words):
    with pytest.raises(ValueError, match=words):
        notes_of(source)
    with pytest.raises(ValueError, match="splits train and test, got 'valid'"):
        notes_of("notes", split="valid")


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(FONTS, "fluid", replace(FONTS["fluid"], path=tmp_path / "gone.sf2"))
    with pytest.raises(ValueError, match="notes:train needs Debian's package fluid-soundfont-gm, which is not inst"):
        notes_of("notes")
    monkeypatch.setitem(FONTS, "fluid", replace(FONTS["fluid"], path=tmp_path / "there.sf2"))
    (tmp_path / "there.sf2").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="apt-get install fluidsynth"):
        notes_of("notes")


def test_a_renderer_that_fails_is_one_line(tmp_path, monkeypatch):
    install_synth(tmp_path, monkeypatch, process=True)
    (tmp_path / "bin" / "fluidsynth").write_text(
        "#!/bin/sh\necho first >&2\necho 'fluidsynth: no such font' >&2\nexit 1\n"
    )
    with pytest.raises(ValueError, match=r"could not render .*tiny\.sf2 \(fluidsynth: no such font\)"):
        notes_of("notes", limit=10)


def test_the_fingerprint_of_the_notes_that_ship_does_not_move(tmp_path) -> None:
    """Runs are resumed, and statistics looked up, by it."""
    notes = prepare(DataConfig(source="notes:excerpt"), cache_dir=tmp_path, progress=False)
    assert notes.fingerprint.startswith("f61b5d01f7b1")
