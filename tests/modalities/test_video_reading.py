"""Videos of every kind and state: which frame is shown when, what is skipped, and what is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from unistep.modalities.unusable import UnusableFileError
from unistep.modalities.video_options import VideoOptions

pytest.importorskip("av", reason="videos need PyAV: pip install 'unistep[video]'")

from unistep.modalities import video_frames
from unistep.modalities import video_windows as windows
from unistep.modalities.video import VideoModality
from unistep.modalities.video_frames import FrameTimes, Losses, frames_at
from unistep.modalities.video_reading import opened
from video_files import counting, damage, number_of, truncate, write_sound, write_video


def options(**given) -> VideoOptions:
    return VideoOptions(**{"size": 16, "frames": 8, "fps": 25, **given})


def numbers(clip: np.ndarray) -> list[int]:
    """Numbers of :func:`counting`'s frames in a clip ``[c, frames, h, w]``."""
    return [number_of(clip[:, i]) for i in range(clip.shape[1])]


def whole(path, **given) -> tuple[list[int], windows.Recording]:
    """The numbers of all frames of a recording, and the recording."""
    recording = windows.read_windows(path, options(**given))
    frames = np.concatenate(list(recording.blocks))
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (given.get("channels", 3), 16, 16)
    return numbers(frames.swapaxes(0, 1)), recording


KINDS = {
    "mp4": ("libx264", "yuv420p", {"g": "10", "bf": "3", "crf": "4"}),
    "webm": ("libvpx-vp9", "yuv420p", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
    "mkv": ("ffv1", "yuv420p", {}),
    "avi": ("mjpeg", "yuvj420p", {}),
    "mov": ("mpeg4", "yuv420p", {"g": "10", "qscale": "2"}),
    "ts": ("libx264", "yuv420p", {"g": "10", "bf": "3", "crf": "4"}),
    # Frames of 80 bytes share a pack, which has one time stamp: how many do follows from the encoder's slices.
    "mpg": ("mpeg1video", "yuv420p", {"g": "10", "qscale": "2", "threads": "1"}),
    "gif": ("gif", "gray", {}),
}
"""Containers with an encoder each, some with frames that are decoded in another order than they are shown."""


@pytest.mark.parametrize("ending", KINDS)
def test_every_kind_gives_every_frame_and_any_part_by_seeking(tmp_path, ending):
    codec, pix_fmt, given = KINDS[ending]
    path = write_video(tmp_path / f"a.{ending}", counting(40), codec=codec, pix_fmt=pix_fmt, options=given)
    found, recording = whole(path)
    assert found == [i % 28 for i in range(40)]
    assert recording.starts == (0, 8, 16, 24, 32)
    assert not recording.notes
    for start in (0, 1, 9, 10, 11, 25, 36):
        clip, notes = windows.read_clip(path, options(frames=4), start=start / 25 + 0.001)
        assert numbers(clip) == [i % 28 for i in range(start, start + 4)], start
        assert notes == ()


def test_frames_of_an_avi_are_in_order_though_it_does_not_say_when_they_are_shown(tmp_path):
    path = write_video(tmp_path / "a.avi", counting(28), options={"g": "10", "bf": "3", "crf": "4"})
    found, _ = whole(path)
    assert found == sorted(found)
    assert len(set(found)) >= 26


@pytest.mark.parametrize(("fps", "expected"), [(5, [0, 5, 10, 15]), (12.5, list(range(0, 20, 2))), (50, None)])
def test_a_lower_rate_takes_every_nth_frame_and_a_higher_one_repeats(tmp_path, fps, expected):
    path = write_video(tmp_path / "a.mp4", counting(20))
    found, recording = whole(path, fps=fps, frames=2)
    assert found == (expected or [i // 2 for i in range(40)])
    assert (windows.SLOW in recording.notes) == (fps == 50)


def test_a_variable_frame_rate_goes_by_presentation_times(tmp_path):
    times = [Fraction(k * k, 250) for k in range(20)]
    path = write_video(tmp_path / "a.mp4", counting(20), times=times)
    found, _ = whole(path)
    shown = [max(k for k in range(20) if times[k] <= Fraction(i, 25)) for i in range(len(found))]
    assert found == shown
    assert len(found) >= 36  # 1.444 s at 25 fps
    clip, _ = windows.read_clip(path, options(), start=0.8)
    assert numbers(clip) == shown[20:28]


def test_frames_that_are_not_shown_are_not_decoded_where_no_other_needs_them(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", counting(100), options={"g": "100", "bf": "3", "b_strategy": "0"})
    seen = []
    original = video_frames._decoded

    def counted(*args):
        for frame in original(*args):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_frames, "_decoded", counted)

    def decoded(fps: int, count: int, start: int = 0) -> int:
        seen.clear()
        with opened(path) as video:
            base = video.time_base
            times = FrameTimes(start=Fraction(start, 25), fps=Fraction(fps), count=count, time_base=base)
            assert len(list(frames_at(video, times, Losses(), seek=start > 0))) == count
        return len(seen)

    assert decoded(25, 100) == 100
    assert decoded(1, 4) <= 65  # of 76 frames up to the last; some are needed by no other
    assert decoded(25, 8) <= 16  # nothing after the clip but what it is made from
    assert decoded(25, 4, start=60) <= 45  # of 60 frames before it in the group, half


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_turned_videos_are_brought_upright(tmp_path, degrees):
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    frames[:, :24, :32] = 255  # the upper left quarter
    path = write_video(tmp_path / "a.mp4", frames, rotation=degrees)
    clip, notes = windows.read_clip(path, options(frames=1, fit="stretch", channels=1))
    quarters = clip[0, 0].reshape(2, 8, 2, 8).mean(axis=(1, 3))
    expected = np.rot90(np.array([[255, 0], [0, 0]]), k=degrees // 90)  # counterclockwise, as players turn it
    assert np.abs(quarters - expected).max() < 20
    assert ("turned upright by its display matrix" in notes) == (degrees != 0)


def test_pixels_that_are_not_square_become_so(tmp_path):
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[:, :, 8:24] = 255
    path = write_video(tmp_path / "a.mp4", frames, aspect=Fraction(2))  # shown 64 wide: the middle half is cropped
    clip, _ = windows.read_clip(path, options(frames=1, channels=1))
    assert clip.min() > 200


@pytest.mark.parametrize(("fit", "corner"), [("crop", 150), ("pad", 255), ("stretch", 150)])
def test_other_shapes_are_cropped_padded_or_stretched(tmp_path, fit, corner):
    frames = np.full((2, 32, 64, 3), 150, np.uint8)
    path = write_video(tmp_path / "a.mp4", frames)
    clip, _ = windows.read_clip(path, options(frames=1, fit=fit))
    assert abs(int(clip[0, 0, 0, 0]) - corner) < 6
    assert abs(int(clip[0, 0, 8, 8]) - 150) < 6
    red, _ = windows.read_clip(path, options(frames=1, fit="pad", background="red"))
    assert red[:, 0, 0, 0].tolist() == [255, 0, 0]


def test_scaling_is_antialiased_and_keeps_colours(tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    frames = np.stack([np.asarray(coarse.resize((160, 120), Image.Resampling.BICUBIC))] * 2)
    path = write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="bgr0", options={})
    clip, _ = windows.read_clip(path, options(frames=1, fit="stretch"))
    wanted = np.asarray(Image.fromarray(frames[0]).resize((16, 16), Image.Resampling.LANCZOS))
    assert np.abs(clip[:, 0].transpose(1, 2, 0).astype(int) - wanted).mean() < 3


def test_one_frame_and_short_videos_are_named(tmp_path):
    found, recording = whole(write_video(tmp_path / "one.mp4", counting(1)))
    assert found == [0] * 8
    assert list(recording.notes) == [windows.STILL]
    found, recording = whole(write_video(tmp_path / "short.mp4", counting(5)))
    assert found == [0, 1, 2, 3, 4, 4, 4, 4]
    assert list(recording.notes) == [windows.SHORT]
    assert recording.starts == (0,)


def test_sound_beside_the_pictures_is_left_out(tmp_path):
    found, _ = whole(write_video(tmp_path / "a.mp4", counting(30), sound=True))
    assert found == [i % 28 for i in range(30)]


def test_stride_and_length(tmp_path):
    path = write_video(tmp_path / "a.mp4", counting(30))
    assert windows.read_windows(path, options(stride=5)).starts == (0, 5, 10, 15, 20)
    assert windows.read_windows(path, options(stride=5)).slack == 2
    assert windows.count_windows(path, options(stride=5)) == 5
    assert windows.read_windows(path, options(frames=30)).starts == (0,)


def test_some_windows_of_a_long_video_are_read_by_seeking(tmp_path):
    path = write_video(tmp_path / "a.mp4", counting(100), options={"g": "20", "crf": "4"})
    recording = windows.read_windows(path, options())
    assert len(recording.starts) == 12
    some = recording.only((16, 88))
    frames = np.concatenate(list(some.blocks))
    assert some.starts == (0, 8)
    assert some.slack == 0
    assert numbers(frames.swapaxes(0, 1)) == [i % 28 for i in (*range(16, 24), *range(88, 96))]
    most = recording.only(recording.starts[:10])
    assert most.starts == recording.starts[:10]
    assert sum(len(block) for block in most.blocks) == 100


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_frames_move_though_the_first_packets_have_no_decoding_time(tmp_path, count):
    given = {"g": "20", "bf": "3", "b_strategy": "0", "crf": "4"}
    path = write_video(tmp_path / "a.mkv", counting(60), options=given)
    recording = windows.read_windows(path, options(frames=count, stride=1))
    some = recording.only((0, 1, 21, 22, 41))
    frames = np.concatenate(list(some.blocks))
    assert numbers(frames.swapaxes(0, 1)) == [(i + k) % 28 for i in (0, 1, 21, 22, 41) for k in range(count)]


def noisy(frames: int) -> np.ndarray:
    """Frames that take some bytes."""
    noise = np.random.default_rng(0).integers(0, 24, (frames, 48, 64, 1))
    return (counting(frames) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_corrupt_packets_are_skipped_and_counted(tmp_path, ending):
    path = damage(write_video(tmp_path / f"a.{ending}", noisy(60)))
    recording = windows.read_windows(path, options())
    frames = np.concatenate(list(recording.blocks))
    assert len(frames) == max(recording.starts) + 8 + (len(frames) - 8) % 8
    sound = whole(write_video(tmp_path / f"b.{ending}", noisy(60)))[0]
    found = numbers(frames.swapaxes(0, 1))
    assert found[:20] == sound[:20]
    if ending != "ts":  # whose demuxer leaves out what is damaged
        assert any(note.endswith("skipped") for note in recording.notes)
        assert found[-8:] == sound[-8:]  # the next key frame mends it


def test_what_is_damaged_throughout_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", noisy(30))
    content = path.read_bytes()
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:begin] + b"\xff" * (end - begin) + content[end:])
    with pytest.raises(UnusableFileError, match=r"^no frame can be decoded: Invalid data"):
        windows.read_windows(path, options())


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "avi"])
def test_truncated_files_are_refused_in_a_line(tmp_path, ending):
    codec, pix_fmt, given = KINDS[ending]
    path = write_video(
        tmp_path / f"a.{ending}", noisy(100), codec=codec, pix_fmt=pix_fmt, options=given, faststart=ending == "mp4"
    )
    with pytest.raises(UnusableFileError, match=r"^truncated: ends at \d\.\d of 4\.0 s"):
        windows.read_windows(truncate(path), options())


def test_a_missing_index_is_named(tmp_path):
    path = truncate(write_video(tmp_path / "a.mp4", noisy(30)))
    with pytest.raises(UnusableFileError, match=r"its index .moov. is missing"):
        windows.read_windows(path, options())
    assert windows.count_windows(path, options()) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mp4", b"", "empty file"),
        ("a.mp4", b"hello" * 99, "not a video"),
        ("notes.txt", b"some words\n" * 9, "not a video"),
        ("a.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nb.ts\n#EXT-X-ENDLIST\n", "not a video"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile b.mp4\n", "not a video"),
    ],
)
def test_other_files_are_no_videos(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableFileError, match=message) as caught:
        windows.read_windows(tmp_path / name, options())
    assert not caught.value.recognised


def test_pictures_and_sounds_are_no_videos(tmp_path):
    from PIL import Image

    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(UnusableFileError, match="not a video"):
        windows.read_windows(tmp_path / "a.png", options())
    with pytest.raises(UnusableFileError, match="has sound and no pictures"):
        windows.read_windows(write_sound(tmp_path / "a.mp4"), options())
    with pytest.raises(UnusableFileError, match="cannot be read: No such file"):
        windows.read_windows(tmp_path / "missing.mp4", options())


def test_a_clip_begins_within_the_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", counting(30))
    with pytest.raises(UnusableFileError, match=r"lasts 1\.20 s; a clip cannot begin at 2 s"):
        windows.read_clip(path, options(), start=2)
    with pytest.raises(ValueError, match="begins at 0 seconds or later, got -1"):
        windows.read_clip(path, options(), start=-1)


def test_without_pyav_the_line_names_the_extra(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", counting(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ValueError, match=r"videos need PyAV .*pip install 'unistep\[video\]'"):
        windows.read_windows(path, options())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size must be from 1 to 4096 pixels, got 0"),
        ({"frames": 0}, "frames must be from 1 to 100,000, got 0"),
        ({"frames": -3}, "frames must be from 1 to 100,000, got -3"),
        ({"stride": 0}, "stride must be from 1 to 100,000 frames, got 0"),
        ({"fps": 0.0}, "fps must be from 0.01 to 1000 frames per second, got 0.0"),
        ({"fps": float("nan")}, "fps must be from"),
        ({"channels": 2}, "must be 1 .grey. or 3 .RGB., got 2"),
        ({"fit": "cropp"}, "did you mean"),
        ({"background": "blakc"}, "did you mean"),
    ],
)
def test_wrong_options_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        VideoOptions(**given)


def test_the_end_of_a_video_is_what_a_stream_goes_on_from(tmp_path):
    clips = VideoModality(size=32, channels=3, frames=4, fps=25)
    long = clips.load_end(write_video(tmp_path / "a.mp4", counting(20)))
    assert numbers(clips.to_stored(long).numpy()) == [16, 17, 18, 19]
    short = clips.load_end(write_video(tmp_path / "b.mp4", counting(3)))
    assert numbers(clips.to_stored(short).numpy()) == [0, 1, 2, 2]
    half = replace(clips, fps=12.5).load_end(tmp_path / "a.mp4")
    assert numbers(clips.to_stored(half).numpy()) == [12, 14, 16, 18]
    with pytest.raises(ValueError, match=r"cannot read the video .*nothing.mp4"):
        clips.load_end(tmp_path / "nothing.mp4")
