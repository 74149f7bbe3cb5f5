"""Clips to files and back: nothing half-written, every format, film strips, and what is not a clip."""

from __future__ import annotations

import errno
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unistep.modalities import VideoModality
from unistep.modalities import video_preview as preview
from unistep.modalities import video_writing as output

GREY = VideoModality(size=16, channels=1, frames=6, fps=8)
COLOUR = VideoModality(size=(20, 30), channels=3, frames=5, fps=12.5)
needs_av = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("av") is None, reason="PyAV is missing: pip install 'unistep[video]'"
)


def clips(count: int, modality: VideoModality = GREY) -> torch.Tensor:
    """Smooth clips, which any encoder keeps."""
    channels, frames, height, width = modality.shape
    level = 40 + 20 * torch.arange(frames).view(1, frames, 1, 1) + 3 * torch.arange(count).view(-1, 1, 1, 1, 1)
    ramp = torch.arange(width).view(1, 1, 1, width) + 2 * torch.arange(height).view(1, 1, height, 1)
    hue = 15 * torch.arange(channels).view(channels, 1, 1, 1)
    return (level + ramp + hue).to(torch.uint8)


def test_shapes_and_words():
    assert GREY.shape == (1, 6, 16, 16)
    assert COLOUR.shape == (3, 5, 20, 30)
    assert COLOUR.described == "5 frames of 30 x 20 pixels, RGB, 12.5 fps"
    assert COLOUR.seconds == 0.4
    assert COLOUR.rate is None
    assert GREY.mismatch(COLOUR)
    assert GREY.mismatch(VideoModality(size=16, channels=1, frames=6, fps=9))
    assert VideoModality.of_tensors((3, 4, 8, 8), torch.uint8) == VideoModality(size=(8, 8), channels=3, frames=4)
    assert VideoModality.of_tensors((3, 4, 8, 8), torch.float32) is None


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": (4, 9_999)}, {"channels": 2}, {"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}]
)
def test_wrong_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        VideoModality(**{"size": 8, "channels": 1, "frames": 2, **wrong})


@needs_av
@pytest.mark.parametrize("modality", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(("name", "apart"), [("a.mp4", 3), ("a.MP4", 3), ("a.webm", 5), ("a.gif", 6)])
def test_a_saved_clip_is_loaded_again(tmp_path, modality, name, apart):
    x = clips(1, modality)[0]
    modality.save(modality.to_signal(x), tmp_path / name)
    back = modality.to_stored(modality.load(tmp_path / name))
    assert back.shape == x.shape
    assert (back.int() - x.int()).abs().float().mean() < apart
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@needs_av
def test_a_grey_gif_is_exact(tmp_path):
    x = clips(1)[0]
    GREY.save(x, tmp_path / "a.gif")
    assert torch.equal(GREY.to_stored(GREY.load(tmp_path / "a.gif")), x)


@needs_av
def test_odd_sizes_gain_a_row_or_column(tmp_path):
    import av

    odd = VideoModality(size=(15, 17), channels=3, frames=3)
    odd.save(clips(1, odd), tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.average_rate) == (16, 18, 8)
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert not container.streams.audio


@needs_av
def test_several_clips_move_side_by_side(tmp_path):
    import av

    GREY.save(clips(5), tmp_path / "a.mp4")
    wide = preview.side_by_side(clips(5).numpy())
    assert wide.shape == (1, 6, 2 * 66 + 2, 3 * 66 + 2)  # enlarged four times, with gaps
    assert wide[0, 2, 2, 2] == clips(5)[0, 0, 2, 0, 0]
    assert wide[0, 2, 68 + 1, 2] == clips(5)[3, 0, 2, 0, 0]
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == wide.shape[2:]
        assert sum(1 for _ in container.decode(stream)) == 6


@needs_av
def test_a_folder_gets_numbered_files(tmp_path):
    GREY.save(clips(3), tmp_path / "out")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [f"{i:06d}.mp4" for i in range(3)]
    GREY.save(clips(2), tmp_path / "out/")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_arrays_have_the_frame_rate(tmp_path):
    COLOUR.save(clips(2, COLOUR), tmp_path / "a.npz", labels=[4, 5])
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(found["arr_0"], clips(2, COLOUR).permute(0, 2, 3, 4, 1))
        assert found["arr_1"].tolist() == [4, 5]
        assert found["fps"] == 12.5


def test_a_film_strip_shows_the_first_and_the_last_frame(tmp_path):
    long = VideoModality(size=4, channels=1, frames=20)
    x = (10 * torch.arange(20)).view(1, 1, 20, 1, 1).expand(1, *long.shape).to(torch.uint8)
    strip = np.asarray(preview.film_strip(x[0].numpy()))
    assert strip.shape == (4, 8 * 4 + 7)
    assert (strip[0, 0], strip[0, -1]) == (0, 190)
    long.save(x, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (39, 4)
    assert preview.film_strip(x[0, :, :1].numpy()).size == (4, 4)
    labelled = long.grid(x.repeat(3, 1, 1, 1, 1), columns=1, labels=["a", "b", "c"])
    assert labelled.height > 3 * 4 * 8


def test_previews_need_no_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    GREY.save_preview(GREY.to_signal(clips(4)), tmp_path, "0001")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["0001.gif", "0001.png"]
    with Image.open(tmp_path / "0001.gif") as image:
        assert image.n_frames == 6
        assert image.info["loop"] == 0
        times = [image.seek(i) or image.info["duration"] for i in range(6)]
    assert sum(times) == 750  # ms of six frames at 8 a second
    with pytest.raises(ValueError, match=r"videos need PyAV .*pip install 'unistep\[video\]'"):
        GREY.check_path(tmp_path / "a.mp4")


@needs_av
def test_another_encoder_is_used_where_the_usual_one_is_missing(tmp_path, monkeypatch):
    import av

    others = output.ENCODERS[".mp4"][1:]
    monkeypatch.setitem(output.ENCODERS, ".mp4", (("no-such-encoder", {}), *others))
    COLOUR.save(clips(1, COLOUR), tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name in {name for name, _ in others} | {"h264", "mpeg4"}
    monkeypatch.setitem(output.ENCODERS, ".mp4", (("no-such-encoder", {}),))
    with pytest.raises(ValueError, match=r"\.mp4 files need one of the encoders no-such-encoder, .*use \.gif"):
        COLOUR.check_path(tmp_path / "b.mp4")


@needs_av
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "out/"])
def test_nothing_is_left_where_the_disk_is_full(tmp_path, monkeypatch, name):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.gif").write_bytes(b"before")
    monkeypatch.setattr("pathlib.Path.replace", full)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ValueError, match=r"cannot write .*No space left on device") as caught:
        GREY.save(clips(2), f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.gif"]
    assert (tmp_path / "a.gif").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.mp5", r"did you mean 'a\.mp4'"),
        ("a.avi", r"must end with \.mp4, \.webm, \.gif"),
        ("missing/a.mp4", "does not exist"),
        ("-", "not to a pipe"),
    ],
)
def test_wrong_paths_are_refused_before_the_work(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        GREY.check_path(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 6, 16, 16), "with c 1 or 3"),
        (torch.zeros(1, 1, 0, 16, 16), "must have shape"),
        (torch.full((1, 6, 16, 16), float("nan")), "are not numbers"),
        ([1, 2], "must be a torch tensor"),
    ],
)
def test_what_is_not_a_clip_is_refused(tmp_path, x, message):
    with pytest.raises(ValueError, match=message):
        GREY.save(x, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_bytes_for_a_handler():
    assert GREY.encode(clips(2), "gif")[:6] == b"GIF89a"
    assert GREY.encode(clips(2), "png")[1:4] == b"PNG"
    with pytest.raises(ValueError, match="unknown format 'avi'"):
        GREY.encode(clips(2), "avi")


@pytest.mark.parametrize("shape", [(1, 16, 32, 32), (3, 16, 64, 64), (1, 7, 9, 9), (1, 1, 8, 8), (3, 8, 24, 40)])
def test_networks_fit_every_shape(shape):
    modality = VideoModality(size=shape[2:], channels=shape[0], frames=shape[1])
    networks = modality.default_networks(shape)
    assert networks
    for network in networks:
        network.fitted(shape, {})
    small = networks[0].fitted(shape, {}).build()
    x = torch.zeros(1, *shape)
    assert small(x, torch.zeros(1)).shape == x.shape


def test_the_flip_turns_all_frames_alike():
    x = clips(1, COLOUR)[0]
    flip = COLOUR.augmentations["flip"]
    found = [flip(x, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert all(torch.equal(y, x) or torch.equal(y, x.flip(-1)) for y in found)
    assert len({torch.equal(y, x) for y in found}) == 2
    view = COLOUR.random_view(COLOUR.to_signal(clips(2, COLOUR)), torch.Generator().manual_seed(0))
    assert view.shape == (2, *COLOUR.shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_file_has_the_very_pixels(tmp_path, channels):
    pytest.importorskip("av")
    modality = VideoModality(size=(9, 14), channels=channels, frames=4, fps=17.5)
    x = torch.randint(0, 256, modality.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    modality.save(x, tmp_path / "a.mkv")
    assert torch.equal(modality.to_stored(modality.load(tmp_path / "a.mkv")), x)
