"""Streams of video: raw frames, files that grow and are there whole or not at all."""

from __future__ import annotations

import resource
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unistep.files import DiskError
from unistep.modalities import VideoModality
from unistep.modalities.stream_output import StreamOutput

GREY = VideoModality(size=16, channels=1, frames=6, fps=8)
COLOUR = VideoModality(size=(20, 30), channels=3, frames=5, fps=12.5)
needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is missing: pip install 'unistep[video]'")


def ramp(modality: VideoModality) -> torch.Tensor:
    """A smooth clip that becomes brighter."""
    channels, frames, height, width = modality.shape
    pixels = (
        40 + 20 * torch.arange(frames).view(1, frames, 1, 1) + torch.arange(width) + 2 * torch.arange(height)[:, None]
    )
    return modality.to_signal((pixels + 15 * torch.arange(channels).view(-1, 1, 1, 1)).to(torch.uint8))


def write(output: StreamOutput, clip: torch.Tensor, path: Path) -> None:
    """Write a clip frame by frame."""
    with output.open_file(path) as put:
        for i in range(clip.shape[1]):
            put(clip[:, i : i + 1])


def test_a_pipe_gets_frames_of_interleaved_pixels_and_names_a_player() -> None:
    for modality, layout, size in ((GREY, "gray", "16x16"), (COLOUR, "rgb24", "30x20")):
        output, clip = modality.stream_output, ramp(modality)
        raw = b"".join(output.to_bytes(clip[:, i : i + 1]) for i in range(modality.frames))
        wanted = modality.to_stored(clip).permute(1, 2, 3, 0).numpy()
        assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(wanted.shape), wanted)
        assert output.player == (
            f"ffplay -f rawvideo -pixel_format {layout} -video_size {size} -framerate {modality.fps:g} -i -"
        )
        assert (output.content, output.rate) == ("video", modality.fps)
        assert output.pictures is not None
        shown = output.pictures(clip)
        assert shown.shape == (modality.frames, *modality.shape[2:], 3)
        assert np.array_equal(shown[..., :1] if modality is GREY else shown, wanted)


def test_sounds_have_no_pictures() -> None:
    from unistep.modalities import AudioModality

    assert AudioModality().stream_output.pictures is None


@needs_av
@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_file_that_grew_is_like_one_written_at_once(ending: str, tmp_path: Path) -> None:
    for modality in (GREY, COLOUR, replace(COLOUR, size=(21, 31))):
        clip, path = ramp(modality), tmp_path / f"out{ending}"
        with modality.stream_output.open_file(path) as put:
            for i in range(modality.frames):
                put(clip[:, i : i + 1])
                assert not path.exists()
        modality.save(clip, tmp_path / f"whole{ending}")
        grown, whole = modality.load(path), modality.load(tmp_path / f"whole{ending}")
        # Not equal to the bit: an encoder's decisions for the same frames were seen to differ by two levels of 255.
        assert grown.shape == whole.shape == clip.shape
        assert (grown - whole).abs().mean() < 0.01 < (clip[:, 1:] - clip[:, :-1]).abs().mean()
        path.unlink()


def test_a_gif_that_grew_has_every_frame_and_its_times(tmp_path: Path) -> None:
    for modality in (GREY, COLOUR):
        clip, path = ramp(modality), tmp_path / "out.gif"
        with modality.stream_output.open_file(path) as put:
            put(clip[:, :2])
            put(clip[:, 2:])
        with Image.open(path) as image:
            assert image.n_frames == modality.frames
            assert image.info["loop"] == 0
            for i in range(modality.frames):
                image.seek(i)
                assert abs(image.info["duration"] - 1e3 / modality.fps) <= 10
                pixels = np.asarray(image.convert("L" if modality is GREY else "RGB"))
                wanted = modality.to_stored(clip[:, i]).numpy()
                wanted = wanted[0] if modality is GREY else wanted.transpose(1, 2, 0)
                assert np.abs(pixels.astype(int) - wanted).max() <= 2


def frames_of(path: Path) -> list[np.ndarray]:
    """The frames of a GIF as a player shows them."""
    found = []
    with Image.open(path) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            found.append(np.asarray(image.convert("RGB")))
    return found


def test_what_stands_still_in_a_gif_does_not_flicker(tmp_path: Path) -> None:
    """Many colours come and go on the right, the ones on the left stay; whatever the palette is, it is one."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 16, 32, 3), np.uint8)
    frames[:, :, :16] = frames[0, :, :16]
    modality = VideoModality(size=(16, 32), channels=3, frames=12)
    write(modality.stream_output, modality.to_signal(torch.from_numpy(frames).permute(3, 0, 1, 2)), tmp_path / "a.gif")
    found = frames_of(tmp_path / "a.gif")
    assert len(found) == 12
    assert all(np.array_equal(each[:, :16], found[0][:, :16]) for each in found)
    assert np.abs(np.stack(found).astype(int) - frames).mean() < 40


def test_a_long_gif_is_written_as_it_grows_and_a_new_scene_has_its_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unistep.modalities import gif_stream

    monkeypatch.setattr(gif_stream, "KEPT", 5)
    rng = np.random.default_rng(1)
    reds, blues = (np.zeros((60, 16, 16, 3), np.uint8) for _ in range(2))
    reds[..., 0] = rng.integers(0, 256, reds.shape[:3])
    blues[..., 2] = rng.integers(0, 256, blues.shape[:3])
    path = tmp_path / "a.gif"
    with gif_stream.growing_gif(path, 10) as add:
        for i in range(60):
            add(reds[i : i + 1])
        assert path.stat().st_size > 0  # what the system's buffer does not hold is there before the end
        add(blues)
    found = frames_of(path)
    assert len(found) == 120
    for drawn, frame in zip(found, [*reds, *blues], strict=True):
        assert np.abs(drawn.astype(int) - frame).mean() < 3


def test_a_stream_at_another_rate_is_written_at_that_rate(tmp_path: Path) -> None:
    output = COLOUR.stream_output
    assert output.at_rate is not None
    faster = output.at_rate(25)
    assert faster.rate == 25
    assert "-framerate 25 " in faster.player
    write(faster, ramp(COLOUR), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["duration"] == 40
    with pytest.raises(ValueError, match="fps must be from"):
        output.at_rate(1e6)


@pytest.mark.parametrize(
    "ending", [pytest.param(".mp4", marks=needs_av), pytest.param(".webm", marks=needs_av), ".gif"]
)
def test_a_disk_that_fills_up_is_one_line_and_leaves_what_was_there(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{ending}"
    path.write_bytes(b"older")
    output = VideoModality(size=64, channels=3, frames=1).stream_output
    noise = torch.rand(3, 200, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, hard))
    try:
        with pytest.raises(DiskError, match=f"cannot write {path}: File too large"):
            write(output, noise, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"older"


@needs_av
def test_a_stream_that_fails_leaves_no_file(tmp_path: Path) -> None:
    clip = ramp(GREY)
    broken = torch.cat([clip, torch.full_like(clip, float("nan"))], dim=1)
    with pytest.raises(ValueError, match="not numbers"):
        write(GREY.stream_output, broken, tmp_path / "out.mp4")
    with GREY.stream_output.open_file(tmp_path / "out.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_a_clip_that_stands_still(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    clip = COLOUR.load(tmp_path / "a.png")
    assert clip.shape == COLOUR.shape
    assert np.array_equal(COLOUR.to_stored(clip)[:, 3].permute(1, 2, 0).numpy(), pixels)
    (tmp_path / "b.png").write_text("none")
    with pytest.raises(ValueError, match=r"cannot read the image .*b\.png"):
        COLOUR.load(tmp_path / "b.png")
