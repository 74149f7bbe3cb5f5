"""Music on a one-step instrument: notes at their times, and MIDI files."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cli.standins import save_instrument, save_standin, save_stream
from unistep.cli.main import main
from unistep.core.condition import LabelField
from unistep.demo.music import PEAK, RELEASE, Played, in_range, perform, scale_and_beat
from unistep.generation.generator import Generator
from unistep.hub import load, save
from unistep.provenance import read_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "play_midi.py"
RATE, LENGTH = 8_000, 2_000
"""Those of the stand-in: a quarter of a second."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_instrument(tmp_path_factory.mktemp("instrument") / "notes")


@pytest.fixture
def generator(folder) -> Generator:
    return load(folder)


def level(sound: torch.Tensor, start: float, stop: float) -> float:
    return float(sound[:, round(start * RATE) : round(stop * RATE)].abs().max())


def test_notes_sound_from_their_start_until_their_end(generator):
    piece = [
        Played(start=0.5, seconds=0.1, pitch=60, instrument="piano"),
        Played(start=1.0, seconds=9.0, pitch=72, instrument="flute"),
    ]
    played = perform(generator, piece, seed=4)
    assert played.sample_rate == RATE
    assert len(played.latencies) == 2
    assert played.sound.shape[1] == round((1.0 + LENGTH / RATE + RELEASE) * RATE)
    assert level(played.sound, 0, 0.499) == 0
    assert level(played.sound, 0.5, 0.6) > 0
    assert level(played.sound, 0.5 + 0.1 + RELEASE + 0.001, 0.999) == 0
    assert level(played.sound, 1.24, 1.249) > 0  # a note is at most as long as the model makes it
    assert level(played.sound, 1.251, 1.31) == 0


def test_each_note_is_the_model_s_own_at_its_seed(generator):
    played = perform(generator, [Played(start=0.0, seconds=9.0, pitch=64, instrument="organ", velocity=50)], seed=7)
    wanted = 0.7 * generator.sample(1, seed=7, instrument="organ", pitch=64, velocity=50)[0]
    wanted = wanted * min(1, PEAK / float(wanted.abs().max()))
    assert torch.allclose(played.sound[:, :LENGTH], wanted, atol=1e-6)


def test_notes_together_are_their_sum_and_stay_in_range(generator):
    chord = [Played(start=0.0, seconds=0.2, pitch=p, instrument="piano") for p in (60, 64, 67)]
    quiet = perform(generator, chord, gain=0.01).sound
    alone = sum(perform(generator, [note], seed=i, gain=0.01).sound for i, note in enumerate(chord))
    assert torch.allclose(quiet, alone, atol=1e-6)
    assert perform(generator, chord * 4, gain=1.0).sound.abs().max() <= PEAK + 1e-6


def test_pitches_and_velocities_are_brought_into_range(generator):
    pitches = generator.config.fields["pitch"]
    assert [in_range(p, pitches) for p in (36, 48, 84, 96, 97, 0)] == [48, 48, 84, 84, 73, 48]
    narrow = replace(pitches, size=3, names=())
    assert in_range(55, narrow) in range(48, 51)
    loud = Played(start=0.0, seconds=0.1, pitch=60, instrument="piano", velocity=500)
    assert torch.equal(perform(generator, [loud]).sound, perform(generator, [replace(loud, velocity=127)]).sound)


def test_what_cannot_be_played_is_refused(generator, tmp_path):
    with pytest.raises(ValueError, match="there is no note to play"):
        perform(generator, [])
    with pytest.raises(ValueError, match="did you mean 'piano'"):
        perform(generator, [Played(start=0.0, seconds=1.0, pitch=60, instrument="pianno")])
    with pytest.raises(ValueError, match="plays without end, not note by note"):
        perform(load(save_stream(tmp_path / "phrases")), [Played(start=0.0, seconds=1.0, pitch=60, instrument="piano")])
    pictures = load(save_standin(tmp_path / "fashion", "consistency"))
    with pytest.raises(ValueError, match="cannot be played; it takes a model of sounds with instrument and pitch"):
        perform(pictures, [Played(start=0.0, seconds=1.0, pitch=60, instrument="piano")])


def test_the_piece_has_every_instrument_and_rhythm(generator):
    names = generator.config.fields["instrument"].names
    piece = scale_and_beat(names, tempo=120)
    assert {note.instrument for note in piece} == set(names)
    assert [note.pitch for note in piece[:8]] == [60, 62, 64, 65, 67, 69, 71, 72]
    assert piece[1].start == pytest.approx(0.25)
    assert {note.instrument for note in scale_and_beat(("bell",))} == {"bell"}
    kit = scale_and_beat(names, ("snare", "hihat", "kick", "tom"))
    assert [note.instrument for note in kit if note.drum and note.instrument != "hihat"][:4] == ["kick", "snare"] * 2
    assert not [note for note in piece if note.drum]


def save_drums(folder: Path, rate: int = RATE) -> Path:
    """A model of three drums with random weights."""
    g = load(save_instrument(folder.parent / "copied"))
    network = replace(g.config.network, vocabularies={}, scalars={}, num_classes=3)
    modality = replace(g.config.modality, sample_rate=rate)
    fields = {"label": LabelField(size=3, names=("hihat", "kick", "snare"))}
    config = replace(g.config, network=network, modality=modality, fields=fields)
    net = config.build().net
    torch.nn.init.normal_(net.output.weight, std=0.2)
    save(config, net.state_dict(), folder, "# drums\n")
    return folder


def test_drums_are_played_by_their_own_model(generator, tmp_path):
    drums = load(save_drums(tmp_path / "drums"))
    piece = [Played(start=0.1, seconds=9.0, pitch=0, instrument="snare", velocity=127, drum=True)]
    sound = perform(generator, piece, drums=drums, seed=3, gain=0.01).sound
    start = round(0.1 * RATE)
    wanted = 0.01 * drums.sample(1, seed=3, label="snare")[0]
    assert torch.allclose(sound[:, start : start + LENGTH], wanted, atol=1e-6)
    for wrong, words in ((generator, "cannot play drums"), (load(save_drums(tmp_path / "slow", 4_000)), "must agree")):
        with pytest.raises(ValueError, match=words):
            perform(generator, piece, drums=wrong)


def test_the_demo_of_sounds_names_the_model_of_its_drums(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drums = save_drums(tmp_path / "kit")
    assert main(["demo", "audio", "--model", str(folder), "--drums", str(drums), "--tempo", "400", "-o", "a.wav"]) == 0
    mark = read_file("a.wav").mark
    assert mark is not None
    assert mark.model == f"{folder.name}, kit"


def test_the_demo_of_sounds(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "audio", "--model", str(folder), "--tempo", "400", "-o", "new/scale.wav"]) == 0
    out = capsys.readouterr().out
    assert "1 network call each" in out
    assert "real-time factor" in out
    sound, rate = soundfile.read("new/scale.wav")
    assert rate == RATE
    assert np.abs(sound).max() > 0.01
    with Image.open("new/scale.png") as picture:
        assert picture.width > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tempo", "0"], "--tempo must be from 20 to 400, got 0"),
        (["-o", "scale.png"], "must end with .wav or .flac"),
        (["--model", "nowhere/at.all"], "there is no model"),
        (["--modle", "x"], "did you mean '--model'?"),
    ],
)
def test_a_mistake_in_the_demo_of_sounds_is_one_line(options, words, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = options if options[0] == "--model" else ["--model", str(folder), *options]
    assert main(["demo", "audio", *given]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def song(path: Path) -> Path:
    """A piano, a xylophone and drums; two quarters, the second note never ends."""
    file, track = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack()
    file.tracks.append(track)
    for channel, program in ((0, 0), (1, 13)):
        track.append(mido.Message("program_change", channel=channel, program=program))
    track.append(mido.Message("note_on", channel=0, note=24, velocity=100))
    track.append(mido.Message("note_on", channel=9, note=36, velocity=100))
    track.append(mido.Message("note_on", channel=0, note=24, velocity=0, time=480))
    track.append(mido.Message("note_on", channel=1, note=64, velocity=80))
    track.append(mido.MetaMessage("end_of_track", time=480))
    file.save(path)
    return path


def test_a_midi_file_is_played(folder, tmp_path, capsys):
    example = runpy.run_path(str(EXAMPLE))
    names = load(folder).config.fields["instrument"].names
    notes = list(example["notes_of"](song(tmp_path / "song.mid"), names, (), None))
    assert [(n.start, n.pitch, n.instrument, n.velocity) for n in notes] == [
        (0.0, 24, "piano", 100),
        (0.5, 64, "marimba", 80),
    ]
    assert notes[0].seconds == pytest.approx(0.5)
    out = tmp_path / "song.wav"
    assert example["main"]([str(tmp_path / "song.mid"), "-m", str(folder), "-o", str(out)]) == 0
    assert "2 notes" in capsys.readouterr().out
    sound, rate = soundfile.read(out)
    assert np.abs(sound[: rate // 4]).max() > 0
    assert np.abs(sound[rate // 2 : rate // 2 + rate // 4]).max() > 0
    assert len(list(example["notes_of"](tmp_path / "song.mid", names, (), 0.3))) == 1


def test_the_drums_of_a_midi_file_are_played(tmp_path, capsys):
    """Every key whose kind of stroke the model knows; the song's other notes stay as they are."""
    example = runpy.run_path(str(EXAMPLE))
    file = mido.MidiFile(song(tmp_path / "song.mid"))
    track = mido.MidiTrack()
    for key, velocity in ((36, 110), (42, 60), (27, 100), (38, 0)):
        track.append(mido.Message("note_on", channel=9, note=key, velocity=velocity, time=240))
    file.tracks.append(track)
    file.type = 1
    file.save(tmp_path / "beat.mid")
    kinds = load("drums").config.fields["label"].names
    assert set(example["STROKES"]) == set(kinds)
    plain = list(example["notes_of"](tmp_path / "song.mid", ("piano", "marimba"), kinds, None))
    played = list(example["notes_of"](tmp_path / "beat.mid", ("piano", "marimba"), kinds, None))
    strokes = [note for note in played if note.drum]
    assert [(note.instrument, note.velocity) for note in strokes] == [("kick", 100), ("kick", 110), ("hihat", 60)]
    assert strokes[1].start < strokes[2].start
    others = [note for note in played if not note.drum]
    assert len(others) == len([note for note in plain if not note.drum])
    sounds = []
    for drums in ([], ["--drums", "none"]):
        out = tmp_path / "beat.wav"
        assert example["main"]([str(tmp_path / "beat.mid"), "-o", str(out), *drums]) == 0
        sounds.append(soundfile.read(out)[0])
    assert f"{len(others)} notes" in capsys.readouterr().out
    assert len(sounds[0]) != len(sounds[1]) or np.abs(sounds[0] - sounds[1]).max() > 0.01


def test_a_file_that_is_no_midi_is_one_line(folder, tmp_path, capsys):
    example = runpy.run_path(str(EXAMPLE))
    (tmp_path / "text.mid").write_text("no music")
    for name, words in (("text.mid", "is not a MIDI file"), ("gone.mid", "there is no file")):
        assert example["main"]([str(tmp_path / name), "-m", str(folder), "-o", str(tmp_path / "a.wav")]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert example["main"]([str(song(tmp_path / "a.mid")), "-m", str(folder), "-o", str(tmp_path / "a.waw")]) == 2
    assert "did you mean 'a.wav'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ticks", "late", "words"),
    [
        (0, 0, "is timed in frames of film or not at all"),
        (-6360, 0, "is timed in frames of film or not at all"),  # 25 frames a second of 40 ticks
        (480, 2**28 - 1, "lasts 77.7 hours, wanted at most 2"),
    ],
)
def test_a_midi_file_of_impossible_times_is_one_line(ticks, late, words, folder, tmp_path, capsys):
    file = mido.MidiFile(song(tmp_path / "song.mid"))
    file.ticks_per_beat = ticks
    file.tracks[0].insert(0, mido.MetaMessage("text", text="", time=late))
    file.save(tmp_path / "song.mid")
    play = runpy.run_path(str(EXAMPLE))["main"]
    assert play([str(tmp_path / "song.mid"), "-m", str(folder), "-o", str(tmp_path / "a.wav")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_midi_file_of_an_impossible_key_is_one_line(folder, tmp_path, capsys):
    file = mido.MidiFile(song(tmp_path / "song.mid"))
    file.tracks[0].insert(0, mido.MetaMessage("key_signature", key="C"))
    file.save(tmp_path / "song.mid")
    content = (tmp_path / "song.mid").read_bytes()
    (tmp_path / "song.mid").write_bytes(content.replace(b"\xff\x59\x02\x00\x00", b"\xff\x59\x02\x10\x07"))
    play = runpy.run_path(str(EXAMPLE))["main"]
    assert play([str(tmp_path / "song.mid"), "-m", str(folder), "-o", str(tmp_path / "a.wav")]) == 2
    assert "is not a MIDI file" in capsys.readouterr().err
