"""Folders of videos, and the built-in clips of moving clothes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unistep import registry
from unistep.cli.main import main
from unistep.data import data_config, prepare
from unistep.data.sources.fashion import FashionMnist
from unistep.data.sources.moving_fashion import SCENE, draw_clip, silhouette
from unistep.modalities import VideoModality
from video_files import counting, damage, number_of, truncate, write_sound, write_video


def clips_of(folder: Path, **options):
    settings = {"size": 16, "frames": 8, "fps": 25.0, **options}
    return prepare(data_config(f"folder:{folder}", **settings), progress=False)


def numbers(values: np.ndarray) -> list[list[int]]:
    return [[number_of(clip[:, i]) for i in range(clip.shape[1])] for clip in values]


@pytest.fixture
def place(tmp_path):
    pytest.importorskip("av", reason="videos need PyAV: pip install 'unistep[video]'")
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_clips_cover_each_video_and_are_stored_once(place):
    write_video(place / "a.mp4", counting(28))
    write_video(place / "b.webm", counting(12), codec="libvpx-vp9", options={"deadline": "realtime"})
    dataset = clips_of(place, stride=4)
    assert dataset.modality == VideoModality(size=16, channels=3, frames=8, fps=25.0)
    assert dataset.values.shape == (6 + 2, 3, 8, 16, 16)
    wanted = [list(range(i, i + 8)) for i in (0, 4, 8, 12, 16, 20, 0, 4)]
    assert numbers(dataset.values[:]) == wanted
    stored = sum(path.stat().st_size for path in dataset.path.glob("values.npy"))
    assert stored < (28 + 12) * 3 * 16 * 16 + 1_000
    moved = {numbers(dataset.batch([2], [seed])[0].numpy())[0][0] for seed in range(30)}
    assert moved == {6, 7, 8, 9, 10}  # half a stride earlier or later
    assert torch.equal(dataset.batch([2], [7])[0], dataset.batch([1, 2], [9, 7])[0][1:])


def test_broken_files_are_named_and_what_was_done_is_counted(place):
    for label in ("left", "right"):
        (place / label).mkdir()
        write_video(place / label / "good.mp4", counting(16))
    write_video(place / "left" / "short.mp4", counting(3), rotation=90)
    write_video(place / "left" / "still.mp4", counting(1))
    noise = np.random.default_rng(0).integers(0, 24, (60, 48, 64, 1))
    damage(write_video(place / "right" / "damaged.mp4", (counting(60) + noise).clip(0, 255).astype(np.uint8)))
    truncate(write_video(place / "right" / "cut.mp4", counting(30)))
    write_sound(place / "right" / "song.mp4")
    (place / "right" / "notes.txt").write_text("words")
    (place / "right" / "empty.mp4").write_bytes(b"")
    dataset = clips_of(place, max_bad=0.5)
    lines = str(dataset.summary)
    assert "left 4, right 9" in lines
    for words in (
        "shorter than a clip: its last frame is held: 1 (left/short.mp4)",
        "has one frame: a still picture: 1 (left/still.mp4)",
        "turned upright by its display matrix: 1 (left/short.mp4)",
        "skipped: 1 (right/damaged.mp4)",
        "right/cut.mp4: truncated or broken: its index (moov) is missing or damaged",
        "right/song.mp4: has sound and no pictures",
        "right/empty.mp4: empty file",
        "right/notes.txt: not a video",
    ):
        assert words in lines, lines
    assert dataset.fields["label"].names == ("left", "right")


def test_a_limit_reads_some_clips_of_each_file_by_seeking(place):
    write_video(place / "long.mp4", counting(200), options={"g": "25", "crf": "4"})
    write_video(place / "other.mp4", counting(40))
    dataset = clips_of(place, limit=4)
    assert len(dataset) == 4
    stored = np.load(dataset.path / "values.npy", mmap_mode="r")
    assert len(stored) == 4 * 8  # no more than the clips
    starts = [clip[0] for clip in numbers(dataset.values[:])]
    assert starts == [0, 96 % 28, 0, 16]


def test_grey_clips_of_another_length_and_rate(place):
    write_video(place / "a.mp4", counting(25))
    dataset = clips_of(place, channels=1, frames=3, fps=5.0, size=8)
    assert dataset.values.shape == (1, 1, 3, 8, 8)
    assert numbers(dataset.values[:]) == [[0, 5, 10]]
    assert dataset.modality.fps == 5.0


def test_a_folder_of_gifs_is_videos_where_they_are_asked_for(place):
    VideoModality(size=16, channels=1, frames=6).save(torch.zeros(1, 6, 16, 16), place / "a.gif")
    assert clips_of(place, modality="video", fps=8.0, frames=6).values.shape == (1, 3, 6, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data.frames 0", "frames must be from 1 to 100,000, got 0"),
        ("--data.frames -4", "frames must be from 1 to 100,000, got -4"),
        ("--data.stride 0", "stride must be from 1"),
        ("--data.fps -1", "fps must be from 0.01"),
        ("--data.seconds 2", "--data.seconds is an option of audio"),
    ],
)
def test_wrong_options_are_one_line(place, tmp_path, capsys, options, message):
    write_video(place / "a.mp4", counting(25))
    assert main(f"train denoising --data folder:{place} {options} --out {tmp_path / 'run'}".split()) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "run").exists()


# Moving clothes.


def moving(split: str = "test", **options):
    return prepare(data_config(f"moving-fashion:{split}", **options), progress=False)


def test_clips_belong_to_their_number(tmp_path):
    few, more = moving(limit=4), moving(limit=8)
    assert few.values.shape == (4, 1, 16, 32, 32)
    assert np.array_equal(few.values[:], more.values[::2])
    images = FashionMnist(split="test", downloads=tmp_path).images()
    assert np.array_equal(draw_clip(images, "test", 3, 20)[:7], draw_clip(images, "test", 3, 7))
    assert not np.array_equal(draw_clip(images, "test", 3, 7), draw_clip(images, "test", 4, 7))
    assert "MIT" in few.licence


def test_sizes_lengths_and_channels():
    dataset = moving(limit=2, size=64, frames=5, channels=3)
    assert dataset.values.shape == (2, 3, 5, 64, 64)
    small = moving(limit=2, size=32, frames=5)
    blocks = dataset.values[:, :1].reshape(2, 1, 5, 32, 2, 32, 2).mean(axis=(4, 6))
    assert np.abs(blocks - small.values[:]).max() <= 0.5
    assert moving(limit=1, size=24).values.shape == (1, 1, 16, 24, 24)


def test_items_bounce_move_all_the_time_and_the_front_one_hides_the_other(tmp_path):
    images = np.zeros((2, 28, 28), np.uint8)
    images[:] = np.array([100, 200])[:, None, None]  # whole squares
    hidden = 0
    for number in range(20):
        scene = draw_clip(images, "train", number, 60)
        assert set(np.unique(scene)) <= {0, 100, 200}
        assert (scene[1:] != scene[:-1]).any(axis=(1, 2)).all()
        covered = (scene > 0).sum(axis=(1, 2))
        assert covered.max() <= 2 * 28 * 28
        assert covered.min() >= 28 * 28  # none leaves the scene
        hidden += int(covered.min() < 2 * 28 * 28)
    assert hidden > 10
    assert scene.shape == (60, SCENE, SCENE)


def test_a_silhouette_has_no_holes():
    item = np.zeros((5, 5), np.uint8)
    item[1:4, 1:4] = 7
    item[2, 2] = 0
    assert np.array_equal(silhouette(item), np.pad(np.ones((3, 3), bool), 1))


def test_the_splits_share_no_item():
    source = registry.lookup("source", "moving-fashion")
    config = data_config("moving-fashion")
    train, test = (source.named(split, config, Path()).items for split in ("train", "test"))
    assert set(train.identity()["fashion-mnist"]).isdisjoint(test.identity()["fashion-mnist"])
    with pytest.raises(ValueError, match="splits train and test, got 'tset'; did you mean 'test'"):
        source.named("tset", config, Path())
