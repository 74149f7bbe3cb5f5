from __future__ import annotations

import os
import resource

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from audio_files import tone
from unistep.files import DiskError
from unistep.modalities import AudioModality
from unistep.modalities import audio_preview as spectrogram
from unistep.modalities import audio_reading as sound
from unistep.modalities import audio_writing as sound_output
from unistep.modalities import writing as output

MONO = AudioModality()
STEREO = AudioModality(sample_rate=22_050, samples=7_001, channels=2)


def sounds(count: int, modality: AudioModality = MONO) -> torch.Tensor:
    """Noise that dies away over a hum."""
    n = modality.samples
    hum = torch.sin(torch.arange(n) * 0.05)
    noise = torch.randn(count, modality.channels, n) * torch.linspace(1, 0, n) ** 2
    return (0.3 * hum + 0.2 * noise).clamp(-1, 1)


def test_shapes():
    assert MONO.shape == (1, 16_000)
    assert MONO.seconds == 1
    assert MONO.part((1, 8_000)) == AudioModality(samples=8_000)
    assert STEREO.shape == (2, 7_001)
    assert STEREO.described == "0.3175 s, 22,050 Hz, stereo"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sample_rate": 999}, "from 1000 to 768000 Hz, got 999"),
        ({"samples": 0}, "samples must be at least 1 and .*, got 0"),
        ({"channels": 3}, r"1 \(mono\) or 2 \(stereo\), got 3"),
        ({"samples": 10**12}, "at most 1,073,741,824, got 1000000000000"),
    ],
)
def test_wrong_fields_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        AudioModality(**wrong)


def test_signals_are_stored_in_16_bits():
    stored = torch.tensor([[-32_768, -1, 0, 1, 32_767]], dtype=torch.int16)
    x = MONO.to_signal(stored)
    assert x.dtype == torch.float32
    assert x.min() == -1
    assert torch.equal(MONO.to_stored(x), stored)
    assert torch.equal(MONO.quantised(torch.tensor([2.0, 0.5])), torch.tensor([32_767 / 32_768, 0.5]))
    with pytest.raises(ValueError, match="1 of 2 samples are not numbers"):
        MONO.to_stored(torch.tensor([0.0, float("nan")]))


@pytest.mark.parametrize(
    ("format", "begin"), [("wav", b"RIFF"), (".FLAC", b"fLaC"), ("png", b"\x89PNG"), ("npz", b"PK")]
)
def test_bytes_for_a_web_handler(format, begin):
    assert MONO.encode(sounds(2), format).startswith(begin)
    with pytest.raises(ValueError, match="unknown format 'waw' of sounds; did you mean 'wav'"):
        MONO.encode(sounds(1), "waw")


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("modality", [MONO, STEREO], ids=["mono", "stereo"])
def test_a_saved_sound_is_loaded_again(tmp_path, name, modality):
    x = sounds(1, modality)
    x[..., :3] = 0.5  # it begins at once
    modality.save(x, tmp_path / name)
    info = soundfile.info(tmp_path / name)
    assert (info.samplerate, info.frames, info.channels) == (modality.sample_rate, modality.samples, modality.channels)
    assert info.subtype == "PCM_16"
    back = modality.load(tmp_path / name, loudness="keep")
    assert torch.equal(back, (x[0] * 32768).round().clamp(max=32767) / 32768)
    assert modality.load(tmp_path / name).abs().max() == pytest.approx(sound.PEAK, abs=1e-4)


@pytest.mark.parametrize("kind", ["missing", "text", "folder"])
def test_what_cannot_be_loaded_is_one_line(tmp_path, kind):
    (tmp_path / "text").write_text("no sound")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="cannot read the sound") as caught:
        MONO.load(tmp_path / kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.wav", "a.FLAC", "a.ogg"])
def test_several_sounds_follow_each_other_in_one_file(tmp_path, name):
    x = torch.cat([torch.full((1, 1, 1_600), v) for v in (0.25, 0.5, -0.5)])
    MONO.save(x, tmp_path / name)
    found, rate = soundfile.read(tmp_path / name)
    gap = round(sound_output.GAP * rate)
    assert len(found) == 3 * 1_600 + 2 * gap
    if name != "a.ogg":
        assert found[[0, 1_599, 1_600 + gap, 2 * (1_600 + gap)]] == pytest.approx([0.25, 0.25, 0.5, -0.5], abs=1e-4)
        assert np.abs(found[1_600 : 1_600 + gap]).max() == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~output._umask()


def test_minutes_of_sound_do_not_overflow_the_stack_of_the_vorbis_encoder(tmp_path):
    long = AudioModality(samples=3_000_000)
    long.save(torch.zeros(1, 1, long.samples), tmp_path / "a.ogg")
    assert soundfile.info(tmp_path / "a.ogg").frames == long.samples


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_pictures_of_sounds(tmp_path, name):
    MONO.save(sounds(3), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.size == MONO.grid(sounds(3)).size
    MONO.save(sounds(1), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.size == (spectrogram.WIDTH, spectrogram.WAVE + spectrogram.HEIGHT)


@pytest.mark.parametrize("name", ["new", "new.d/", "there"])
def test_a_folder_gets_numbered_files(tmp_path, name):
    (tmp_path / "there").mkdir()
    x = sounds(3)
    MONO.save(x, f"{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path / name)) == ["000000.wav", "000001.wav", "000002.wav"]
    found, _ = soundfile.read(tmp_path / name / "000002.wav", dtype="float32")
    assert np.allclose(found, x[2, 0].numpy(), atol=1 / 32768)
    MONO.save(x[:2], f"{tmp_path}/{name}")  # fewer in the second call: nothing of the first is left among them
    assert sorted(os.listdir(tmp_path / name)) == ["000000.wav", "000001.wav"]


def test_npz(tmp_path):
    x = sounds(3, STEREO)
    STEREO.save(x, tmp_path / "a.npz", labels=[2, 0, 1])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert np.array_equal(found["arr_0"], sound.quantise(x.numpy()))
        assert found["arr_1"].tolist() == [2, 0, 1]
        assert found["sample_rate"] == 22_050
    with pytest.raises(ValueError, match="1 labels cannot serve 3"):
        STEREO.save(x, tmp_path / "a.npz", labels=[1])


def test_a_preview_is_a_picture_and_a_sound(tmp_path, monkeypatch):
    MONO.save_preview(sounds(4), tmp_path, "00000012")
    assert sorted(os.listdir(tmp_path)) == ["00000012.png", "00000012.wav"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    MONO.save_preview(sounds(4), tmp_path, "00000013")
    assert sorted(os.listdir(tmp_path)) == ["00000012.png", "00000012.wav", "00000013.png"]


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2, 3, 100), r"\[n, c, samples\] with c 1 or 2, got \[2, 3, 100\]"),
        (torch.zeros(0, 1, 100), "got"),
        (torch.zeros(100), "got"),
        (torch.tensor([[[0.0, float("nan")]]]), "1 of 2 samples are not numbers"),
    ],
)
def test_what_is_no_sound_is_not_written(tmp_path, x, words):
    with pytest.raises(ValueError, match=words):
        MONO.save(x, tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


def wrong_path(tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    return {
        "suffix": tmp_path / "a.waw",
        "unknown": tmp_path / "a.xyz",
        "no folder": tmp_path / "gone" / "a.wav",
        "a file": tmp_path / "file",
        "other files": tmp_path / "full",
        "empty": "",
        "read only": "/proc/a.wav",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("suffix", "did you mean 'a.wav'"),
        ("unknown", r"must end with \.wav"),
        ("no folder", "does not exist"),
        ("a file", "it is a file"),
        ("other files", r"cannot write sounds into .*mine\.txt"),
        ("empty", r"such as out\.wav"),
        ("read only", "cannot write"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line_and_changes_nothing(tmp_path, kind, words):
    path = wrong_path(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    for attempt in (lambda: MONO.check_path(path), lambda: MONO.save(sounds(2), path)):
        with pytest.raises(ValueError, match=words) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.wav", "there"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, name):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.wav").write_bytes(b"before")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "000000.wav").write_bytes(b"before")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(ValueError, match="No space left"):
        MONO.save(sounds(2), tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "there" / "000000.wav").read_bytes() == b"before"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "new"])
def test_a_file_that_cannot_grow_is_one_line(tmp_path, name, capfd):
    """What libsndfile says of a full disk, in its own words, is no help."""
    noise = 2 * torch.rand(4, 1, MONO.samples) - 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(DiskError, match=rf"cannot write .*{name}: File too large"):
            MONO.save(noise, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_what_is_no_tensor_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"sounds must be a torch tensor, got ndarray; torch\.from_numpy makes one"):
        MONO.save(sounds(2).numpy(), tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


def test_without_the_libraries_sounds_are_refused_and_pictures_of_them_are_not(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    for path in (tmp_path / "a.wav", tmp_path / "new/"):
        with pytest.raises(ValueError, match=r"pip install 'unistep\[audio\]'"):
            MONO.check_path(path)
    MONO.save(sounds(1), tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(("frequency", "samples"), [(300, 16_000), (1_000, 16_000), (4_000, 3_000), (1_000, 100)])
def test_a_sine_is_a_line_at_its_height_in_the_spectrogram(frequency, samples):
    x = torch.from_numpy(tone(samples / 16_000, 16_000, frequency=frequency, level=1.0)[:, 0]).float()
    levels = spectrogram.mel_levels(x, 16_000, 64, 128)
    assert levels.shape == (128, 64)
    top = 2595 * np.log10(1 + 8_000 / 700)
    wanted = 2595 * np.log10(1 + frequency / 700) / top * 128 - 0.5
    column = levels[:, 32]
    assert abs(int(column.argmax()) - wanted) <= 1.5
    if samples == 16_000:
        assert column.max() == pytest.approx(0, abs=1.5)
        assert column.min() < -50


def test_the_picture_shows_waveform_and_spectrogram():
    """Silence then full-scale noise: white then ink above, black then bright below."""
    x = torch.cat([torch.zeros(1, 8_000), torch.rand(1, 8_000) * 2 - 1], dim=1)
    picture = np.asarray(spectrogram.draw_sound(x, 16_000)).astype(int)
    wave, below = picture[: spectrogram.WAVE], picture[spectrogram.WAVE :]
    assert (wave[4, :100] == 255).all()
    assert wave[4, 140:].mean() < 200
    assert below[:, 10:100].max() < 30
    assert below[:, 150:].mean() > 100


def test_rows_of_a_contact_sheet_may_differ_in_length():
    drawn = MONO.contact_sheet([("one", sounds(3)), ("two", sounds(2, STEREO)[..., :500])])
    assert drawn.width > 3 * spectrogram.WIDTH
