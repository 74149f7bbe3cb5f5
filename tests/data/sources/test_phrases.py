"""Phrases in pairs of chunks, rendered by a stand-in for FluidSynth that plays sines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synth import install_synth
from unistep.data import data_config, prepare
from unistep.data.sources import phrases
from unistep.data.sources.phrases import FIELDS, LENGTH, PITCHES, PROGRAMS, notes_of


@pytest.fixture
def synth(tmp_path, monkeypatch):
    """The stand-in for FluidSynth, and two phrases for each instrument."""
    monkeypatch.setattr(phrases, "PHRASES", {"train": 2, "test": 1})
    monkeypatch.setattr(phrases, "LENGTH", 6)
    return install_synth(tmp_path, monkeypatch)


def pairs_of(source, **options):
    return prepare(data_config(source, seconds=1.024, **options), progress=False)


def strongest(sound, rate=16_000):
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound))).argmax() * rate / (8 * len(sound))


def test_a_pair_is_labelled_with_the_note_of_its_second_chunk(synth):
    dataset = pairs_of("phrases")
    assert dataset.values.shape == (6 * 2 * 6, 1, 16_384)
    assert list(dataset.fields) == ["instrument", "pitch"]
    assert dataset.licence.startswith("MIT")
    stroke = 8_192 + 8_192 // 4
    for values, pitch in zip(dataset.values[:, 0], dataset.condition["pitch"], strict=True):
        note = values[stroke + 100 : stroke + 3_000].astype(float)
        assert strongest(note) == pytest.approx(440 * 2 ** ((PITCHES[pitch] - 69) / 12), rel=0.02)


def test_chunks_go_on_from_pair_to_pair_and_begin_in_silence(synth):
    dataset = pairs_of("phrases:piano")
    for first in (0, 6):
        assert not dataset.values[first, 0, :8_192].any()
        for i in range(first, first + 5):
            assert np.array_equal(dataset.values[i, 0, 8_192:], dataset.values[i + 1, 0, :8_192])
            ringing = dataset.values[i, 0, 8_192 - 200 : 8_192].astype(float)
            assert i == first or np.abs(ringing).max() > 100  # what crosses the seam is the last note


def test_a_phrase_is_stored_once_and_its_windows_do_not_move(synth):
    dataset = pairs_of("phrases:piano")
    assert (dataset.path / "values.npy").stat().st_size < 2 * 2 * 7 * 8_192 + 1_000
    assert torch.equal(dataset.batch([3], [1])[0], dataset.batch([3])[0])  # the label belongs to the window


def test_some_of_the_instruments_a_part_and_a_limit(synth):
    dataset = pairs_of("phrases:flute,piano:test")
    assert dataset.summary.source == "phrases:piano,flute:test"
    names = dataset.fields["instrument"].names
    assert names == tuple(PROGRAMS)
    assert {names[i] for i in dataset.condition["instrument"]} == {"piano", "flute"}
    limited = pairs_of("phrases", limit=10)
    assert len(limited) == 10
    assert len(set(limited.condition["instrument"])) > 3


def test_parts_have_other_notes_and_the_scale_has_no_wrong_one():
    assert notes_of("piano", "train", 0) != notes_of("piano", "test", 0)
    assert len(notes_of("piano", "train", 0)) == LENGTH
    assert {pitch % 12 for pitch in PITCHES} == {0, 2, 4, 7, 9}
    assert FIELDS["pitch"].parse("pitch", "C4", 1).index.tolist() == [PITCHES.index(60)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("phrases:paino", "did you mean 'piano'"),
        ("phrases:train:C4", "phrases has train, test"),
    ],
)
def test_another_word_is_refused(source, words):
    with pytest.raises(ValueError, match=words):
        pairs_of(source)


def test_chunks_must_have_one_length(synth):
    with pytest.raises(ValueError, match="two chunks of equal length"):
        prepare(data_config("phrases", seconds=1.0001, sample_rate=10_000), progress=False)
